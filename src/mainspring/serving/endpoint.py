"""An endpoint: the loaded deployment, its logs, and the one way a prediction is made whatever the protocol."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import msgspec

from mainspring.core import Clock, MainspringError, Unavailable, new_id
from mainspring.serving.deployment import ModelReference, read_deployment
from mainspring.serving.faults import BadRequest
from mainspring.serving.labels import read_label_request
from mainspring.serving.log import SegmentLog
from mainspring.serving.metrics import Metrics
from mainspring.serving.models import LoadedModel, load_model
from mainspring.serving.reader import LAG_MS
from mainspring.serving.records import PredictionRecord
from mainspring.serving.router import LoadedVariant, Router, load_router
from mainspring.serving.validation import Checked, Columns, check
from mainspring.serving.wire import Answer, Headers, Reply, Wire, usable_id

_logger = logging.getLogger("mainspring.serving")
MAX_REFUSED_INPUTS = 64 << 10
"""Refused requests are logged with their inputs up to this many bytes of JSON."""
MAX_SHADOWS = 1_000
"""Requests that may wait to be shadowed; more are dropped and counted."""


@dataclass(slots=True)
class Call:
    """One prediction request on its way through the endpoint."""

    wire: Wire
    received_at: int
    id: str = ""
    """The client's id from the header; else, once it is parsed, from the body; else one of ours."""
    split_key: str = ""
    version: str = ""
    """The model version the client asks for by path; empty means by traffic split."""
    started: float = field(default_factory=perf_counter)
    router: Router | None = None
    variant: LoadedVariant | None = None
    columns: Columns | None = None
    rows: int = 0

    @property
    def latency_ms(self) -> float:
        """Milliseconds since the request was received."""
        return round((perf_counter() - self.started) * 1000, 3)


class Endpoint:
    """What an endpoint process holds."""

    def __init__(self, name: str, folder: Path, clock: Clock, *, allow_pickle: bool = False) -> None:
        self.name = name
        self.folder = folder
        self.clock = clock
        self.metrics = Metrics(name)
        self.error = ""
        """Why the newest deployment file is not the one that answers; empty if it is."""
        self.router: Router | None = None
        self.is_draining = False
        self._allow_pickle = allow_pickle
        self._seen = (0, 0)
        """Stamp of the deployment file that was last looked at."""
        self._predictions = SegmentLog(folder / "predictions", clock)
        self._labels = SegmentLog(folder / "labels", clock)
        self._shadows: deque[Call] = deque()
        self._shadow_waiting = asyncio.Event()

    @property
    def deployment_path(self) -> Path:
        """The file this endpoint follows."""
        return self.folder / "deployment.json"

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.router is not None and not self.is_draining

    def reload(self) -> None:
        """Load the deployment file beside what answers now, then switch; on an error keep what answers now."""
        self._seen = self._stamp()
        try:
            deployment = read_deployment(self.deployment_path)
            router = load_router(deployment, self._load, self.router)
        except MainspringError as error:
            self.error = str(error)
            self.metrics.deployment_error.set(1)
            _logger.error("deployment.refused", extra={"fields": {"error": self.error}})
            return
        self.router = router
        self.error = ""
        self.metrics.deployment_error.set(0)
        self.metrics.revision.set(deployment.revision)
        _logger.info("deployment.loaded", extra={"fields": {"revision": deployment.revision}})

    @property
    def has_shadows(self) -> bool:
        """Whether answered requests still have to be shadowed."""
        return self._shadow_waiting.is_set()

    def require_router(self) -> Router:
        """Return the revision that answers; raise `Unavailable` while there is none."""
        if self.router is None:
            why = f" {self.error}" if self.error else ""
            raise Unavailable(f"Endpoint {self.name} has no model loaded.{why}", hint="Try again when it is ready.")
        return self.router

    def predict(self, call: Call, body: bytes, headers: Headers) -> Reply:
        """Answer one request: parse, choose, check, predict, log, and only then reply.

        Raises `MainspringError` for everything that is wrong with the request; the caller logs it with `refuse`.
        """
        router = call.router = self.require_router()
        parsed = call.wire.parse(body, headers)
        call.id = call.id or usable_id(parsed.id) or new_id(self.clock)
        variant = call.variant = (
            router.with_version(call.version) if call.version else router.choose(call.split_key or call.id)
        )
        call.columns = parsed.read(variant.model.plan)
        outputs = variant.model.predict(self._check(call, variant))
        self._append(self._record(call, variant, outputs=outputs.tolist()))
        self.metrics.observe(
            variant.name, variant.model.reference.version, 200, perf_counter() - call.started, call.rows
        )
        return call.wire.render(parsed, Answer(call.id, self.name, variant.model, outputs))

    def refuse(self, call: Call, error: MainspringError) -> None:
        """Log a request that was not answered, with what was wrong with it; never raises."""
        call.id = call.id or new_id(self.clock)
        problems = error.problems if isinstance(error, BadRequest) else [error.message[:500]]
        variant = call.variant
        reference = variant.model.reference if variant else None
        self.metrics.observe(
            variant.name if variant else "",
            reference.version if reference else "",
            error.http_status,
            perf_counter() - call.started,
            0,
        )
        if call.columns is not None and len(msgspec.json.encode(call.columns)) > MAX_REFUSED_INPUTS:
            call.columns = None
        try:
            self._append(self._record(call, variant, status=error.http_status, problems=problems))
        except Unavailable as failure:
            _logger.error("prediction.log.failed", extra={"fields": {"error": str(failure)}})

    def add_labels(self, body: bytes) -> int:
        """Append the labels of a request and return how many; they are in the log when this returns."""
        records = read_label_request(body, self.clock.now_ms())
        if records:
            self._labels.append(records)
            self.metrics.labels.inc(len(records))
        return len(records)

    def shadow(self, call: Call) -> None:
        """Queue an answered request for the variants that mirror it; drop and count it if the queue is full."""
        if call.router is None or call.variant is None or not call.router.mirrors_of(call.variant):
            return
        if len(self._shadows) >= MAX_SHADOWS:
            self.metrics.shadows_dropped.inc()
            return
        self._shadows.append(call)
        self._shadow_waiting.set()

    async def run_shadows(self) -> None:
        """Predict queued requests with their mirrors, one model call per turn of the event loop, for ever."""
        while True:
            await self._shadow_waiting.wait()
            await self.drain_shadows()
            self._shadow_waiting.clear()

    async def drain_shadows(self) -> None:
        """Predict what is queued now."""
        while self._shadows:
            call = self._shadows.popleft()
            if self.clock.now_ms() - call.received_at >= LAG_MS:
                self.metrics.shadows_dropped.inc()
                continue
            records = []
            for variant in call.router.mirrors_of(call.variant) if call.router and call.variant else []:
                records.append(self._shadow_record(call, variant))
                await asyncio.sleep(0)
            try:
                self._append(*records)
            except Unavailable as failure:
                _logger.error("shadow.log.failed", extra={"fields": {"error": str(failure)}})

    async def watch(self, interval: float = 0.1) -> None:
        """Follow the deployment file: reload it, in a thread, whenever it was replaced."""
        while True:
            await asyncio.sleep(interval)
            if self._stamp() != self._seen:
                await asyncio.to_thread(self.reload)

    def close(self) -> None:
        """Close the logs."""
        self._predictions.close()
        self._labels.close()

    def _load(self, reference: ModelReference) -> LoadedModel:
        return load_model(reference, allow_pickle=self._allow_pickle)

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.deployment_path.stat()
        except FileNotFoundError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def _check(self, call: Call, variant: LoadedVariant) -> Checked:
        columns = call.columns or {}
        call.rows = len(next(iter(columns.values()), []))
        return check(variant.model.plan, columns, call.rows)

    def _shadow_record(self, call: Call, variant: LoadedVariant) -> PredictionRecord:
        call.started = perf_counter()
        try:
            outputs = variant.model.predict(self._check(call, variant)).tolist()
        except BadRequest as error:
            return self._record(call, variant, status=error.http_status, problems=error.problems, shadow=True)
        except Exception as error:  # noqa: BLE001 supervision point: a shadow model may fail in any way, and alone
            problem = f"the model failed: {type(error).__name__}"
            return self._record(call, variant, status=500, problems=[problem], shadow=True)
        self.metrics.observe_shadow(variant.name, variant.model.reference.version, call.rows)
        return self._record(call, variant, outputs=outputs, shadow=True)

    def _record(
        self,
        call: Call,
        variant: LoadedVariant | None,
        *,
        status: int = 200,
        outputs: list[object] | None = None,
        problems: list[str] | None = None,
        shadow: bool = False,
    ) -> PredictionRecord:
        reference = variant.model.reference if variant else None
        return PredictionRecord(
            id=call.id,
            received_at=call.received_at,
            latency_ms=call.latency_ms,
            endpoint=self.name,
            revision=call.router.deployment.revision if call.router else 0,
            variant=variant.name if variant else "",
            shadow=shadow,
            model=reference.name if reference else "",
            version=reference.version if reference else "",
            digest=reference.digest if reference else "",
            protocol=call.wire.name,
            status=status,
            rows=call.rows,
            inputs=call.columns,
            outputs=outputs,
            validation_errors=problems or [],
            split_key=call.split_key,
        )

    def _append(self, *records: PredictionRecord) -> None:
        before = self._predictions.written
        try:
            self._predictions.append(records)
        except Unavailable:
            self.metrics.log_failures.inc(len(records))
            raise
        self.metrics.log_bytes.inc(self._predictions.written - before)
