"""Send what is in spools: one batch after the other, remembering how far it got.

Sending is repeatable: a batch that arrived although the answer was lost is sent again and changes nothing. What a
store refuses for good is set aside in ``<spool>.refused`` with the reason, so that the rest can go on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mainspring.client.batches import Batch, plan_calls
from mainspring.client.records import EndRecord, FileRecord, decode_records
from mainspring.client.sinks import HttpSink, Sink
from mainspring.client.spool import Spool, find_spools, open_spool
from mainspring.core import Conflict, Corrupt, MainspringError, NotFound, Refused, Unavailable

log = logging.getLogger("mainspring.client")
_RETRYABLE = (Unavailable, Refused)
"""`Refused` is a token that is missing or wrong, which can be put right."""
_HOPELESS = (NotFound, Conflict)
"""The run itself is gone or deleted: no need to look for the one record that is at fault."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a round of shipping did."""

    spools: int = 0
    records: int = 0
    refused: int = 0
    waiting: int = 0
    """Spools that somebody still writes to, or whose store did not answer."""

    def __add__(self, other: Shipped) -> Shipped:
        return Shipped(
            self.spools + other.spools, self.records + other.records, self.refused + other.refused,
            self.waiting + other.waiting,
        )  # fmt: skip


def ship_spools(folder: Path, sink: Sink, *, url: str | None = None, run_id: str = "") -> Shipped:
    """Send every spool in ``folder`` that nobody writes to any more, and remove those that arrived.

    With ``url``, only those meant for that server or for no server in particular; with ``run_id``, only those of that
    run. Stops when the store does not answer: the rest waits for the next time.
    """
    total = Shipped()
    for path in find_spools(folder, run_id):
        try:
            spool = open_spool(path)
        except Corrupt as error:
            log.warning("%s", error)
            total += Shipped(waiting=1)
            continue
        if spool is None:
            total += Shipped(waiting=int(path.exists()))
            continue
        try:
            if url is not None and spool.start.url not in ("", url):
                total += Shipped(waiting=1)
                continue
            total += ship_leftover(spool, sink)
        except _RETRYABLE as error:
            log.info("spools in %s wait: %s", folder, error)
            return total + Shipped(waiting=1)
        except MainspringError as error:  # this run cannot be made there, others can
            log.warning("spool %s waits: %s", path, error)
            total += Shipped(waiting=1)
        finally:
            spool.close()
    return total


def ship_to_server(folder: Path, url: str, *, token: str = "", timeout_s: float = 30.0) -> Shipped:
    """Send the spools in ``folder`` to a server."""
    if next(find_spools(folder), None) is None:
        return Shipped()
    sink = HttpSink(url, token=token, timeout_s=timeout_s)
    try:
        return ship_spools(folder, sink, url=url.rstrip("/"))
    finally:
        sink.close()


def ship_leftover(spool: Spool, sink: Sink) -> Shipped:
    """Send what a process left behind, end its run if it was the run's owner, and remove the spool."""
    shipped = ship_available(spool, sink)
    if not shipped.is_ended and spool.start.is_owner:
        _end(spool, sink, EndRecord("KILLED", spool.last_write_ms))
    spool.remove()
    return Shipped(spools=1, records=shipped.records, refused=shipped.refused)


@dataclass(slots=True)
class Round:
    """What has been sent of one spool."""

    records: int = 0
    refused: int = 0
    is_ended: bool = False


def ship_available(
    spool: Spool,
    sink: Sink,
    *,
    on_progress: Callable[[], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Round:
    """Send everything that is in the spool now; raise `Unavailable` if the store does not answer."""
    done = Round()
    while chunk := spool.read():
        start = spool.progress.offset
        run_id = spool.progress.run_id or _create(spool, sink)
        for call in plan_calls(decode_records(chunk)):
            if isinstance(call.what, Batch):
                done.records += len(call.what)
                done.refused += send_batch(spool, sink, run_id, call.what)
            elif isinstance(call.what, FileRecord):
                done.records += 1
                done.refused += _send_file(spool, sink, run_id, call.what)
            else:
                done.is_ended = True
                _end(spool, sink, call.what)
            spool.advance(start + call.offset, run_id)
            if on_progress is not None:
                on_progress()
            if should_stop is not None and should_stop():
                return done
        spool.advance(start + len(chunk), run_id)
        spool.compact()
    return done


def send_batch(spool: Spool, sink: Sink, run_id: str, batch: Batch) -> int:
    """Send a batch; return how many of its records the store refuses, which are set aside."""
    if not len(batch):
        return 0
    try:
        sink.log_batch(run_id, batch)
    except _RETRYABLE:
        raise
    except MainspringError as error:
        if len(batch) == 1 or isinstance(error, _HOPELESS):
            _set_aside(spool, error, {"metrics": [[m.key, m.value, m.timestamp, m.step] for m in batch.metrics]},
                       {"params": batch.params}, {"tags": batch.tags})  # fmt: skip
            return len(batch)
        first, second = batch.halves()
        return send_batch(spool, sink, run_id, first) + send_batch(spool, sink, run_id, second)
    return 0


def _create(spool: Spool, sink: Sink) -> str:
    """Make the run where it is sent to, and remember under which id."""
    run_id = sink.create_run(spool.start)
    spool.advance(spool.progress.offset, run_id)
    return run_id


def _send_file(spool: Spool, sink: Sink, run_id: str, record: FileRecord) -> int:
    copy = spool.files / record.copy
    if not copy.is_file():  # sent before; only the note of it was lost
        return 0
    try:
        sink.put_file(run_id, copy, record.path)
    except _RETRYABLE:
        raise
    except MainspringError as error:
        kept = spool.path.with_suffix(".refused-files")
        kept.mkdir(exist_ok=True)
        copy.replace(kept / record.copy)
        _set_aside(spool, error, {"file": record.path, "copy": f"{kept.name}/{record.copy}"})
        return 1
    copy.unlink(missing_ok=True)
    return 0


def _end(spool: Spool, sink: Sink, record: EndRecord) -> None:
    run_id = spool.progress.run_id or _create(spool, sink)
    try:
        sink.end_run(run_id, record.status, record.end_time)
    except _RETRYABLE:
        raise
    except MainspringError as error:
        _set_aside(spool, error, {"status": record.status})


def _set_aside(spool: Spool, error: MainspringError, *what: Mapping[str, object]) -> None:
    line: dict[str, object] = {"run": spool.start.run_id, "error": str(error)}
    for part in what:
        line.update({name: value for name, value in part.items() if value})
    with spool.path.with_suffix(".refused").open("a") as file:
        file.write(json.dumps(line) + "\n")
    log.warning("run %s: refused by the store, kept in %s: %s", spool.start.run_id, spool.path.stem + ".refused", error)
