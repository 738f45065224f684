"""Keep what was measured: windows, their reports and signals."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, NotFound, new_id, to_iso
from mainspring.db.tables import monitoring as tables
from mainspring.lineage import record_event
from mainspring.monitoring.measure import WindowReport
from mainspring.monitoring.signals import Signal


class MeasuredWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window as it was measured, for the first time or (``measurement`` 2, 3, …) again.

    ``event`` is the id of its monitor.window.measured.
    """

    id: str
    monitor: str
    endpoint: str
    start_ms: int
    end_ms: int
    measurement: int
    measured_at: int
    rows: int
    labelled: int
    report: WindowReport
    event: str


def save_report(
    connection: sa.Connection,
    clock: Clock,
    *,
    monitor: str,
    endpoint: str,
    report: WindowReport,
    signals: Sequence[Signal],
    cause: str | None = None,
) -> MeasuredWindow:
    """Keep a report and its signals and record monitor.window.measured.

    A window may be measured again when late labels have arrived; both measurements are kept.
    """
    measured = MeasuredWindow(
        id=new_id(clock),
        monitor=monitor,
        endpoint=endpoint,
        start_ms=report.window.start,
        end_ms=report.window.end,
        measurement=_count_measurements(connection, monitor, report.window.end) + 1,
        measured_at=clock.now_ms(),
        rows=report.volume.rows,
        labelled=report.labels.labelled,
        report=report,
        event=_record(connection, clock, monitor, report, signals, cause=cause),
    )
    connection.execute(sa.insert(tables.window).values(msgspec.to_builtins(measured)))
    if signals:
        rows = [
            {"window_id": measured.id, "position": number, **msgspec.structs.asdict(signal)}
            for number, signal in enumerate(signals)
        ]
        connection.execute(sa.insert(tables.signal), rows)
    return measured


def list_windows(
    connection: sa.Connection, monitor: str, *, after_ms: int | None = None, limit: int | None = None
) -> list[MeasuredWindow]:
    """Return a monitor's windows, oldest first, each as measured last.

    With ``after_ms`` only those that end later; with ``limit`` only that many of the newest.
    """
    newer = tables.window.alias()
    replaced = sa.exists().where(
        newer.c.monitor == tables.window.c.monitor,
        newer.c.end_ms == tables.window.c.end_ms,
        newer.c.measurement > tables.window.c.measurement,
    )
    query = sa.select(tables.window).where(tables.window.c.monitor == monitor, ~replaced)
    if after_ms is not None:
        query = query.where(tables.window.c.end_ms > after_ms)
    query = query.order_by(tables.window.c.end_ms.desc()).limit(limit)
    return [_read(row) for row in connection.execute(query).mappings()][::-1]


def get_window(connection: sa.Connection, id: str) -> MeasuredWindow:
    """Return one measured window; raise `NotFound`."""
    row = connection.execute(sa.select(tables.window).where(tables.window.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no measured window {id}.")
    return _read(row)


def last_window_end(connection: sa.Connection, monitor: str) -> int | None:
    """Return the end of the newest window a monitor has measured, or None."""
    query = sa.select(sa.func.max(tables.window.c.end_ms)).where(tables.window.c.monitor == monitor)
    end = connection.execute(query).scalar()
    return None if end is None else int(end)


def signals_of(connection: sa.Connection, window_id: str) -> list[Signal]:
    """Return the signals of a measured window, in the order they were read."""
    table = tables.signal
    query = sa.select(table.c.name, table.c.subject, table.c.value, table.c.n, table.c.threshold, table.c.state)
    rows = connection.execute(query.where(table.c.window_id == window_id).order_by(table.c.position)).mappings()
    return [Signal(**row) for row in rows]


def _count_measurements(connection: sa.Connection, monitor: str, end_ms: int) -> int:
    table = tables.window
    query = sa.select(sa.func.count()).where(table.c.monitor == monitor, table.c.end_ms == end_ms)
    return int(connection.execute(query).scalar_one())


def _record(
    connection: sa.Connection,
    clock: Clock,
    monitor: str,
    report: WindowReport,
    signals: Sequence[Signal],
    *,
    cause: str | None,
) -> str:
    served = report.served
    return record_event(
        connection,
        clock,
        "monitor.window.measured",
        source="monitoring",
        subject=monitor,
        cause=cause,
        data={
            "start": to_iso(report.window.start),
            "end": to_iso(report.window.end),
            "rows": report.volume.rows,
            "labelled": report.labels.labelled,
            "log_loss": served.log_loss.value if served else None,
            "attention": sorted({signal.name for signal in signals if signal.state == "attention"}),
        },
    )


def _read(row: sa.RowMapping) -> MeasuredWindow:
    return MeasuredWindow(**{**row, "report": msgspec.convert(row["report"], WindowReport)})
