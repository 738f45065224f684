"""``mainspring models accelerate``: write the quick form of a model, if it answers as the model does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mainspring.cli.model_names import HELP, find_model
from mainspring.core import InvalidInput


def accelerate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help=HELP)],
    sample: Annotated[
        Path, typer.Option(help="Rows to compare on, as the model gets them: CSV, Parquet or JSON lines.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the new model to; it must be empty.")],
    tolerance: Annotated[float, typer.Option(help="Largest difference of a score that is accepted.")] = 1e-5,
    allow_pickle: Annotated[bool, typer.Option(help="Load models that are pickles: they can run any code.")] = False,
    trust_type: Annotated[list[str] | None, typer.Option(help="A type that skops files may hold.")] = None,
) -> None:
    """Convert a scikit-learn or LightGBM model to ONNX or native trees, and compare both on a sample.

    The report is printed and stored as parity.json; a form that differs by more than the tolerance is refused.
    """
    # Late: models and their libraries are seconds to import.
    from mainspring.serving.acceleration import accelerate as run
    from mainspring.serving.acceleration import require_accepted

    report = run(
        Path(find_model(context, model).folder),
        _read_sample(sample),
        out,
        tolerance,
        allow_pickle=allow_pickle,
        trust_types=trust_type or (),
    )
    typer.echo(
        f"{report.form}: {report.rows} rows, largest difference {report.max_difference:.3g} "
        f"(tolerance {report.tolerance:g}), {report.label_flips} label flips, {report.ties} of them ties"
    )
    typer.echo(f"one row: {report.original_us:g} us before, {report.accelerated_us:g} us now")
    require_accepted(report)
    typer.echo(f"wrote {out}: mainspring serve --model {out}")


def _read_sample(path: Path) -> dict[str, list[Any]]:
    """Read a table as columns of JSON values."""
    import polars as pl

    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".csv": pl.read_csv,
        ".parquet": pl.read_parquet,
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    if path.suffix not in readers:
        raise InvalidInput(f"{path} is not a sample.", hint=f"Name a file ending in {', '.join(readers)}.")
    try:
        frame = readers[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(f"The sample {path} cannot be read: {str(error).splitlines()[0][:200]}") from error
    times = [name for name, kind in frame.schema.items() if kind in (pl.Datetime, pl.Date)]
    plain: dict[str, list[Any]] = frame.with_columns(pl.col(times).dt.to_string("iso:strict")).to_dict(as_series=False)
    return plain
