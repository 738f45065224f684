"""A run being logged to: every call is checked, written to the spool, and then back in the training loop."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from mainspring.client import checks
from mainspring.client.destination import Destination, find_destination, process_environment
from mainspring.client.records import EndRecord, FileRecord, ParamRecord, RunStart, TagRecord, encode_record
from mainspring.client.shipper import Shipper
from mainspring.client.shipping import Shipped, ship_to_server
from mainspring.client.sinks import HttpSink, Sink
from mainspring.client.spool import Spool, create_spool, find_spools
from mainspring.core import Conflict, InvalidInput, MainspringError, NotFound, Unavailable, new_hex_id

log = logging.getLogger("mainspring.client")
STATUSES = ("FINISHED", "FAILED", "KILLED")
PARENT_TAG = "mlflow.parentRunId"
CONNECT_TIMEOUT_S = 3.0
FLUSH_TIMEOUT_S = 10.0
_MAX_CACHED_KEYS = 10_000
_CURRENT: ContextVar[ActiveRun | None] = ContextVar("mainspring_run", default=None)


class ActiveRun:
    """A run that this process logs to; also a context manager that ends it: FINISHED, or FAILED by an exception."""

    def __init__(self, destination: Destination, start: RunStart) -> None:
        self._destination = destination
        self._start = start
        self._params: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._token: Token[ActiveRun | None] | None = None
        self._now = destination.clock.now_ms
        self._has_ended = False
        self._open()
        atexit.register(_end_at_exit, weakref.ref(self))

    @property
    def id(self) -> str:
        """The run's id; if it was started without a server, the one a server gives it once it has arrived."""
        return self._spool.progress.run_id or self._start.run_id

    @property
    def has_ended(self) -> bool:
        """Whether the run takes nothing more."""
        return self._has_ended

    @property
    def spool(self) -> Path:
        """The file in which everything logged is safe until it has arrived."""
        return self._spool.path

    def log_metric(self, key: str, value: float, step: int = 0, timestamp: int | None = None) -> None:
        """Log one value; ``timestamp`` in ms since the epoch. When it returns, the value cannot be lost."""
        self._append(self._line(key, value, step, self._now() if timestamp is None else timestamp))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, timestamp: int | None = None) -> None:
        """Log values of one step, all or none."""
        moment = self._now() if timestamp is None else timestamp
        self._append("".join([self._line(key, value, step, moment) for key, value in metrics.items()]))

    def log_param(self, key: str, value: object) -> None:
        """Log a param; it cannot change within a run."""
        self.log_params({key: value})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params, all or none."""
        texts = {
            checks.check_key("param", key): checks.check_text("param", key, value, checks.MAX_PARAM_VALUE)
            for key, value in params.items()
        }
        for key, text in texts.items():
            if self._params.get(key, text) != text:
                raise InvalidInput(
                    f"Param {key!r} is {self._params[key]!r} already and cannot become {text!r}.",
                    hint="Log what changes as a metric or a tag.",
                )
        self._append(b"".join(encode_record(ParamRecord(key, text)) for key, text in texts.items()))
        self._params.update(texts)

    def set_tag(self, key: str, value: object) -> None:
        """Set a tag."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, all or none."""
        records = [
            TagRecord(checks.check_key("tag", key), checks.check_text("tag", key, value, checks.MAX_TAG_VALUE))
            for key, value in tags.items()
        ]
        self._append(b"".join(map(encode_record, records)))

    def log_artifact(self, file: Path | str, folder: str = "") -> None:
        """Log a file below ``folder`` of the run's artifacts; it is copied at once, so it may change afterwards."""
        source = Path(file)
        if not source.is_file():
            raise NotFound(f"There is no file {source}.", hint="Log one file at a time.")
        path = f"{folder}/{source.name}" if folder else source.name
        if any(part in ("", ".", "..") for part in path.split("/")) or not path.isprintable() or "\\" in path:
            raise InvalidInput(f"Invalid artifact path: {path[:200]!r}.", hint="Use a relative path without '..'.")
        self._adopt_fork()
        self._spool.files.mkdir(exist_ok=True)
        name = os.urandom(8).hex()
        shutil.copyfile(source, self._spool.files / name)
        self._append(encode_record(FileRecord(name, path)))

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until everything logged has arrived at the server; False if it does not answer."""
        self._adopt_fork()
        return self._shipper.flush(timeout_s)

    def end(self, status: str = "FINISHED", *, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """End the run and send what is left; False if the server does not answer, then the spool waits for it."""
        if status not in STATUSES:
            raise InvalidInput(f"Invalid run status {status!r}.", hint=f"Use one of {', '.join(STATUSES)}.")
        self._append(encode_record(EndRecord(status, self._now())))
        self._has_ended = True
        self._spool.sync()
        arrived = self._shipper.stop(timeout_s)
        if not arrived and self._destination.find_url():
            log.warning("run %s waits in %s; send it with: mainspring client flush", self.id, self._spool.path)
        return arrived

    def __enter__(self) -> ActiveRun:
        if self._token is None:
            self._token = _CURRENT.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.leave()
        if not self._has_ended:
            self.end("FINISHED" if kind is None else "FAILED")

    def _line(self, key: str, value: float, step: int, timestamp: int) -> str:
        """Return the line of a metric: formatted by hand, because it is the training loop that waits for it."""
        name = self._keys.get(key) if type(key) is str else None
        if name is None:
            name = self._remember(key)
        number = value if type(value) is float else checks.check_value(key, value)
        if type(step) is not int or type(timestamp) is not int or step.bit_length() > 63 or timestamp.bit_length() > 63:
            step, timestamp = checks.check_integer("step", step), checks.check_integer("timestamp", timestamp)
        if number - number != 0.0:  # NaN or infinite
            return f'["m",{name},"{checks.to_wire(number)}",{timestamp},{step}]\n'
        return f'["m",{name},{number!r},{timestamp},{step}]\n'

    def _remember(self, key: str) -> str:
        name = json.dumps(checks.check_key("metric", key))
        if len(self._keys) >= _MAX_CACHED_KEYS:
            self._keys.clear()
        self._keys[key] = name
        return name

    def _append(self, lines: str | bytes) -> None:
        if self._has_ended:
            raise Conflict(f"Run {self.id} has ended.", hint=f"Go on with it: start_run(run_id={self.id!r})")
        self._adopt_fork()
        self._spool.append(lines.encode() if isinstance(lines, str) else lines)
        self._shipper.notify()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._spool: Spool = create_spool(self._destination.spools, self._start)
        self._shipper = Shipper(self._spool, self._open_sink)

    def _adopt_fork(self) -> None:
        """After a fork the child writes to a spool of its own; the run stays the parent's."""
        if os.getpid() != self._pid:
            self._start = replace(self._start, is_owner=False, run_id=self.id, is_new=not self._spool.progress.run_id)
            self._spool.close()
            self._open()

    def _open_sink(self) -> Sink | None:
        url = self._start.url or self._destination.find_url()
        return HttpSink(url, token=self._destination.token) if url else None

    def leave(self) -> None:
        """Stop being the current run, without ending."""
        if self._token is not None:
            _CURRENT.reset(self._token)
            self._token = None
        elif _CURRENT.get() is self:
            _CURRENT.set(None)


def start_run(
    *,
    experiment: str = "",
    name: str = "",
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    run_id: str = "",
    url: str = "",
    home: Path | None = None,
    nested: bool = False,
) -> ActiveRun:
    """Start a run, or go on with ``run_id`` (also from ``MLFLOW_RUN_ID``), and make it the current one.

    With ``nested`` it is a child of the run that is current now.

    Logs to ``url``, else to ``MAINSPRING_URL`` or ``MLFLOW_TRACKING_URI``, else to the server that runs for the home
    folder, else to the spool in the home folder alone, from where whoever opens the store takes it.
    """
    parent = active_run()
    if parent is not None and not nested:
        raise Conflict(f"Run {parent.id} is active here already.", hint="End it first, or pass nested=True.")
    destination = find_destination(process_environment(), url=url, home=home)
    run_id = run_id or ("" if parent else destination.run_id)
    inherited = {PARENT_TAG: parent.id} if parent else {}
    start = RunStart(
        run_id=run_id or new_hex_id(),
        experiment=experiment or destination.experiment,
        experiment_id="" if experiment else destination.experiment_id,
        name=name,
        user=destination.actor[:256],
        start_time=destination.clock.now_ms(),
        tags=_check_tags({**_source_tags(destination), **inherited, **(tags or {})}),
        is_new=not run_id,
        is_owner=True,
        url=destination.url,
    )
    run = ActiveRun(destination, _announce(destination, start))
    _send_leftovers(destination)
    run.__enter__()
    if params:
        run.log_params(params)
    return run


def active_run() -> ActiveRun | None:
    """Return the current run of this thread or task, if there is one."""
    run = _CURRENT.get()
    return None if run is None or run.has_ended else run


def log_metric(key: str, value: float, step: int = 0, timestamp: int | None = None) -> None:
    """Log one value to the current run."""
    _current().log_metric(key, value, step, timestamp)


def log_metrics(metrics: Mapping[str, float], step: int = 0, timestamp: int | None = None) -> None:
    """Log values of one step to the current run."""
    _current().log_metrics(metrics, step, timestamp)


def log_param(key: str, value: object) -> None:
    """Log a param to the current run."""
    _current().log_params({key: value})


def log_params(params: Mapping[str, object]) -> None:
    """Log params to the current run."""
    _current().log_params(params)


def set_tag(key: str, value: object) -> None:
    """Set a tag of the current run."""
    _current().set_tags({key: value})


def set_tags(tags: Mapping[str, object]) -> None:
    """Set tags of the current run."""
    _current().set_tags(tags)


def log_artifact(file: Path | str, folder: str = "") -> None:
    """Log a file to the current run."""
    _current().log_artifact(file, folder)


def flush(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Wait until everything logged to the current run has arrived."""
    return _current().flush(timeout_s)


def end_run(status: str = "FINISHED") -> None:
    """End the current run, if there is one."""
    run = active_run()
    if run is not None:
        run.leave()
        run.end(status)


def send_leftovers(home: Path | None = None, *, url: str = "") -> Shipped:
    """Send the spools that ended processes left in the home folder; raise `Unavailable` if no server is known."""
    destination = find_destination(process_environment(), home=home, url=url)
    found = destination.find_url()
    if not found:
        raise Unavailable(f"No server runs for {destination.home}.", hint="Start it with: mainspring up")
    return ship_to_server(destination.spools, found, token=destination.token)


def _current() -> ActiveRun:
    run = active_run()
    if run is None:
        raise Conflict("No run is active here.", hint="Start one: with mainspring.client.start_run(): …")
    return run


def _announce(destination: Destination, start: RunStart) -> RunStart:
    """Make the run at the server, if one answers now, so that its id is the server's from the beginning."""
    url = destination.find_url()
    if not url:
        return start
    sink = HttpSink(url, token=destination.token, timeout_s=CONNECT_TIMEOUT_S)
    try:
        if start.is_new:
            return replace(start, run_id=sink.start_run(start), is_new=False)
        sink.resume_run(start.run_id)
    except Unavailable as error:
        log.warning("run %s starts without its server: %s", start.run_id, error)
    finally:
        sink.close()
    return start


def _send_leftovers(destination: Destination) -> None:
    """Send what earlier processes left behind, beside everything else; whatever is interrupted goes on next time."""
    url = destination.find_url()
    if url and next(find_spools(destination.spools), None) is not None:
        work = partial(_ship_quietly, destination.spools, url, destination.token)
        threading.Thread(target=work, name="mainspring-leftovers", daemon=True).start()


def _ship_quietly(folder: Path, url: str, token: str) -> None:
    try:
        ship_to_server(folder, url, token=token)
    except (MainspringError, OSError) as error:
        log.warning("spools in %s wait: %s", folder, error)


def _source_tags(destination: Destination) -> dict[str, str]:
    source = {"mlflow.user": destination.actor, "mlflow.source.name": sys.argv[0] if sys.argv else ""}
    return {**{key: value for key, value in source.items() if value}, **destination.tags}


def _check_tags(tags: Mapping[str, object]) -> dict[str, str]:
    return {
        checks.check_key("tag", key): checks.check_text("tag", key, value, checks.MAX_TAG_VALUE)
        for key, value in tags.items()
    }


def _end_at_exit(reference: weakref.ref[ActiveRun]) -> None:
    """End a run nobody ended: FAILED if an exception ends the program."""
    run = reference()
    if run is not None and not run._has_ended and run._pid == os.getpid():
        run.end("FAILED" if getattr(sys, "last_value", None) is not None else "FINISHED")
