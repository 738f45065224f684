"""``mainspring predict``: a file of rows through a model, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mainspring.cli.model_names import HELP, find_model
from mainspring.cli.project import options_of
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    from mainspring.serving import ModelReference


def predict(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="CSV, Parquet or JSON lines.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The same rows with `prediction` beside them.")],
    endpoint: Annotated[str, typer.Option(help="The model that answers at this endpoint.")] = "",
    model: Annotated[str, typer.Option(help=HELP)] = "",
    method: Annotated[
        str, typer.Option(help="What to ask: predict, or predict_proba where the model has it.")
    ] = "predict",
    part: Annotated[int, typer.Option(min=1, help="Rows predicted at once.")] = 4_096,
    record: Annotated[bool, typer.Option(help="Also write prediction records to the endpoint's log.")] = False,
    allow_pickle: Annotated[bool, typer.Option(help="Load models that are pickles: they can run any code.")] = False,
    trust_type: Annotated[list[str] | None, typer.Option(help="A type skops files may hold; repeatable.")] = None,
) -> None:
    """Predict every row of a file; a run that was killed goes on where it was when it is started again."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mainspring.core import open_clock
    from mainspring.serving.batch import BatchOptions, predict_file
    from mainspring.serving.models import load_model
    from mainspring.serving.prediction_log import PredictionLog
    from mainspring.serving.rowfiles import count_rows

    if bool(endpoint) == bool(model):
        raise InvalidInput("Name one model.", hint="Pass --endpoint NAME, or --model models:/NAME@champion.")
    if record and not endpoint:
        raise InvalidInput("Records belong to an endpoint.", hint="Pass --endpoint NAME with --record.")
    settings, _ = options_of(context).load()
    clock = open_clock(settings.clock_spec)
    loaded = load_model(
        model_of(context, endpoint, model), allow_pickle=allow_pickle, trust_types=tuple(trust_type or ())
    )
    log = PredictionLog(settings.endpoint_folder(endpoint) / "predictions", clock) if record else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Predicting", total=count_rows(source) if source.is_file() else None)
        options = BatchOptions(
            method=method,
            part=part,
            log=log,
            endpoint=endpoint or "batch",
            on_part=lambda rows: progress.advance(task, rows),
        )
        done = predict_file(loaded, source, target, clock, options)
    if log is not None:
        log.close()
    again = f", {done.resumed:,} of them by a run before" if done.resumed else ""
    typer.echo(f"{done.rows:,} rows in {target}{again}; {done.problems:,} could not be predicted.", err=True)


def model_of(context: typer.Context, endpoint: str, model: str) -> ModelReference:
    """Return the named model, or that of an endpoint: the variant with the largest share."""
    from mainspring.serving import read_deployment

    if not endpoint:
        return find_model(context, model)
    settings, _ = options_of(context).load()
    deployment = read_deployment(settings.endpoint_folder(endpoint) / "deployment.json")
    return max(deployment.variants, key=lambda variant: variant.weight).model
