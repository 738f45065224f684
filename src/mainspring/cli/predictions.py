"""``mainspring predictions`` and ``mainspring labels``: what endpoints logged, and what turned out to be true."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mainspring.cli.project import open_existing, options_of
from mainspring.core import InvalidInput, NotFound

if TYPE_CHECKING:
    from mainspring.serving.exporting import Selection

app = typer.Typer(help="What endpoints answered: the prediction log.", no_args_is_help=True, rich_markup_mode=None)
labels = typer.Typer(help="What turned out to be true.", no_args_is_help=True, rich_markup_mode=None)


@app.command("export")
def export(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Log folder of `serve --log DIR`; none: this project's.")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="Only this endpoint's records.")] = "",
    since: Annotated[str, typer.Option(help="Received at this time or later: ISO 8601, or ms.")] = "",
    until: Annotated[str, typer.Option(help="Received before this time.")] = "",
    format: Annotated[Literal["jsonl", "parquet"], typer.Option(help="jsonl or parquet.")] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; standard output if none.")] = None,
) -> None:
    """Write the logged predictions as JSON lines or Parquet, torn ends left out and sealed files included."""
    from mainspring.serving.exporting import export_lines, export_parquet

    selection = _select(context, folder, endpoint, since, until)
    if format == "parquet":
        if output is None:
            raise InvalidInput("Parquet needs a file.", hint="Pass --output FILE.")
        count = export_parquet(selection, output)
    elif output is None:
        for line in export_lines(selection):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        return
    else:
        count = _write_lines(selection, output)
    typer.echo(f"{count:,} records in {output}", err=True)


@app.command("check")
def check(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Log folder; none: this project's.")] = None,
) -> None:
    """Read every record and hash every sealed file: say whether anything was changed after it was written."""
    if folder is not None:
        count = sum(1 for _ in _select(context, folder, "", "", "").records())
        typer.echo(f"{count:,} records, none changed.")
        return
    from mainspring.monitoring import check_log

    store = open_existing(context)
    for endpoint in sorted((store.settings.home / "endpoints").glob("*")):
        for log in ("predictions", "labels"):
            files = check_log(store, endpoint / log)
            typer.echo(f"{endpoint.name}/{log}: {files} sealed files and the live segments, none changed.")


@app.command("seal")
def seal(context: typer.Context) -> None:
    """Seal every finished segment now; `mainspring up` does it by itself when there are enough of them."""
    from mainspring.monitoring import seal_log

    store = open_existing(context)
    for endpoint in sorted((store.settings.home / "endpoints").glob("*")):
        for log in ("predictions", "labels"):
            while (endpoint / log).is_dir() and (file := seal_log(store, endpoint / log)) is not None:
                typer.echo(f"{endpoint.name}/{log}: {file.records:,} records  {file.digest}")


@labels.command("add")
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines with: id, label, time.")],
    endpoint: Annotated[str, typer.Option(help="The endpoint that predicted.")] = "",
    log: Annotated[Path | None, typer.Option(help="Its folder, without a project: the DIR of serve --log DIR.")] = None,
    key: Annotated[
        str, typer.Option(metavar="COLUMN", help="Instead of ids: the input column that names the entity; needs `at`.")
    ] = "",
) -> None:
    """Add labels from a file; say how many name a prediction nobody logged, and how many are repeated."""
    from mainspring.core import open_clock
    from mainspring.monitoring import count_labels
    from mainspring.serving.labelfiles import read_label_file
    from mainspring.serving.log import SegmentLog

    settings, _ = options_of(context).load()
    if (log is None) == (not endpoint):
        raise InvalidInput("Say which endpoint predicted.", hint="Pass --endpoint NAME, or --log DIR.")
    folder = log if log is not None else settings.endpoint_folder(endpoint)
    if not (folder / "predictions").is_dir():
        raise NotFound(f"There is no prediction log in {folder}.", hint="Check --endpoint, or --log.")
    writer = SegmentLog(folder / "labels", open_clock(settings.clock_spec))
    found = list(read_label_file(file, open_clock(settings.clock_spec).now_ms(), key=key))
    for start in range(0, len(found), 10_000):
        writer.append(found[start : start + 10_000])
    writer.close()
    counted = count_labels(folder / "predictions", found)
    typer.echo(
        f"{counted.labels:,} labels added: {counted.matched:,} for logged predictions, {counted.unknown:,} unknown, "
        f"{counted.repeated:,} repeated (the newest counts)."
    )


@labels.command("check")
def check_labels(
    context: typer.Context,
    endpoint: Annotated[str, typer.Option(help="The endpoint that predicted.")] = "",
    log: Annotated[Path | None, typer.Option(help="Its folder, without a project.")] = None,
) -> None:
    """Count all labels of an endpoint: for logged predictions, unknown, repeated."""
    from mainspring.monitoring import count_labels
    from mainspring.serving import read_labels

    settings, _ = options_of(context).load()
    if (log is None) == (not endpoint):
        raise InvalidInput("Say which endpoint predicted.", hint="Pass --endpoint NAME, or --log DIR.")
    folder = log if log is not None else settings.endpoint_folder(endpoint)
    counted = count_labels(folder / "predictions", read_labels(folder / "labels"))
    typer.echo(
        f"{counted.labels:,} labels: {counted.matched:,} for logged predictions, {counted.unknown:,} unknown, "
        f"{counted.repeated:,} repeated."
    )


def _select(context: typer.Context, folder: Path | None, endpoint: str, since: str, until: str) -> Selection:
    from mainspring.serving.exporting import EVER_MS, Selection, find_logs

    if folder is None:
        settings, _ = options_of(context).load()
        folder = settings.endpoint_folder(endpoint) if endpoint else settings.home
    return Selection(
        folders=find_logs(folder),
        endpoint=endpoint,
        start_ms=_moment(since) if since else 0,
        end_ms=_moment(until) if until else EVER_MS,
    )


def _moment(text: str) -> int:
    """Read a time: milliseconds since the epoch, or ISO 8601 (UTC, if it names no zone)."""
    from datetime import UTC, datetime

    from mainspring.core import to_ms

    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a time.", hint="Write 2013-02-01, or 2013-02-01T06:30:00Z.") from error
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _write_lines(selection: Selection, output: Path) -> int:
    from mainspring.serving.exporting import export_lines

    count = 0
    try:
        with output.open("wb") as file:
            for line in export_lines(selection):
                file.write(line)
                count += 1
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}.", hint="Check --output.") from error
    return count
