"""An endpoint: the loaded deployment, its logs, and the one way a prediction is made whatever the protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isinf
from pathlib import Path
from time import perf_counter

from mainspring.core import Clock, MainspringError, Unavailable
from mainspring.serving import recording
from mainspring.serving.batcher import BatchLimits, Job, Lane
from mainspring.serving.calls import Call, KnownIds
from mainspring.serving.deployment import ModelReference, read_deployment
from mainspring.serving.explanations import Explanation
from mainspring.serving.faults import ModelFailed, Overloaded
from mainspring.serving.labels import read_label_request
from mainspring.serving.log import SegmentLog
from mainspring.serving.metrics import Metrics
from mainspring.serving.models import LoadedModel, load_model
from mainspring.serving.outputs import PREDICT
from mainspring.serving.prediction_log import LogPolicy, PredictionLog
from mainspring.serving.records import PredictionRecord
from mainspring.serving.router import LoadedVariant, Router, load_router
from mainspring.serving.shadows import Shadows
from mainspring.serving.threads import run_in_thread
from mainspring.serving.tracing import HEADER as TRACEPARENT
from mainspring.serving.tracing import NOT_RECORDED, TraceContext, span_of
from mainspring.serving.validation import MLFLOW, check_params
from mainspring.serving.wire import Answer, Headers, Parsed, Reply, usable_id

_logger = logging.getLogger("mainspring.serving")
RETRY_AFTER = (b"retry-after", b"1")
_HINT = "The endpoint's log has the reason."
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What the encoders raise for values that no protocol has a form for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """What the operator decides about models, batches and the log."""

    allow_pickle: bool = False
    trust_types: tuple[str, ...] = ()
    """Types that skops files may hold beyond those this server has vetted."""
    limits: BatchLimits = field(default_factory=BatchLimits)
    policy: LogPolicy = field(default_factory=LogPolicy)
    split_field: str = ""
    """Input column that keeps a client with its variant, unless the deployment names one."""


class Endpoint:
    """What an endpoint process holds; all but `reload` belongs to the event loop."""

    def __init__(self, name: str, folder: Path, clock: Clock, options: EndpointOptions | None = None) -> None:
        self.name = name
        self.folder = folder
        self.clock = clock
        self.options = options or EndpointOptions()
        self.metrics = Metrics(name)
        self.error = ""
        """Why the newest deployment file is not the one that answers; empty if it is."""
        self.router: Router | None = None
        self.is_draining = False
        self.log = PredictionLog(folder / "predictions", clock, self.options.policy)
        self._labels = SegmentLog(folder / "labels", clock)
        self._seen = (0, 0)
        """Stamp of the deployment file that was last looked at."""
        self._ids = KnownIds(clock)
        self._lanes: dict[int, Lane] = {}
        self._shadows = Shadows(clock, self._submit_shadow, self._fail_shadow, self.metrics.shadows_dropped.inc)
        self._hides = bool(self.options.policy.redact or self.options.policy.hashed)
        self._explaining = 0
        self._dropped = 0

    @property
    def deployment_path(self) -> Path:
        """The file this endpoint follows."""
        return self.folder / "deployment.json"

    @property
    def is_sick(self) -> bool:
        """Whether so many model calls have not returned that only a new process helps."""
        return sum(lane.stuck for lane in self._lanes.values()) > self.options.limits.max_stuck

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.router is not None and not self.is_draining and not self.is_sick

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being predicted, for callers or in shadow."""
        return self._shadows.is_idle and all(lane.is_idle for lane in self._lanes.values())

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

    def forget_deployment(self) -> None:
        """Read the deployment file again at the next look, changed or not."""
        self._seen = (-1, -1)

    def require_router(self) -> Router:
        """Return the revision that answers; raise `Unavailable` while there is none."""
        if self.router is None:
            why = f" {self.error}" if self.error else ""
            raise Unavailable(f"Endpoint {self.name} has no model loaded.{why}", hint="Try again when it is ready.")
        return self.router

    def predict(self, call: Call, body: bytes, headers: Headers) -> None:
        """Answer one request through its ``respond``, now or later; whatever is wrong with it is logged and told."""
        try:
            self._admit()
            call.router = self.require_router()
            call.size = len(body)
            self.submit(call, call.wire.parse(body, headers))
        except Overloaded as error:
            self.metrics.overloaded.inc()
            reply = call.wire.fault(error)
            call.respond(Reply(reply.status, reply.body, reply.content_type, (*reply.headers, RETRY_AFTER)))
        except MainspringError as error:
            self.refuse(call, error)

    def submit(self, call: Call, parsed: Parsed) -> None:
        """Choose the variant, check, and queue for its model; raise `MainspringError` for what is wrong."""
        router = call.router = call.router or self.require_router()
        call.parsed = parsed
        call.id = self._ids.unique(call.id or usable_id(parsed.id))
        variant = call.variant = self._choose(call, parsed, router)
        lane = self._lane_of(variant.model)
        if lane.waiting >= self.options.limits.max_waiting:
            raise Overloaded(f"Model {variant.name} has too much to do.", hint="Try again in a second.")
        lane.submit(self._job(call, parsed, variant))

    def refuse(self, call: Call, error: MainspringError) -> None:
        """Log a request that was not answered, with what was wrong with it, and tell the client."""
        call.id = call.id or self._ids.unique("")
        self._observe(call, error.http_status, 0)
        try:
            self._append([recording.refused(self.name, call, error)])
        except Unavailable as failure:
            _logger.error("prediction.log.failed", extra={"fields": {"error": str(failure)}})
        self._reply(call, call.wire.fault(error))

    async def explain(self, parsed: Parsed) -> Explanation:
        """Say how much each input moved each row's score, in a thread; one explanation at a time."""
        router = self.require_router()
        variant = router.choose("")
        model = variant.model
        if model.explain is None:
            raise Unavailable(f"Model {variant.name} cannot be explained.", hint="pip install 'mainspring[explain]'")
        if self._explaining >= 1:
            raise Overloaded("Another explanation is being made.", hint="Try again in a second.")
        checked = parsed.read(model.plan).check(model.plan, parsed.rules, check_params(model.plan, None))
        self._explaining += 1
        try:
            explain = model.explain
            return await asyncio.wait_for(run_in_thread(lambda: explain(checked)), self.options.limits.seconds)
        finally:
            self._explaining -= 1

    def add_labels(self, body: bytes) -> int:
        """Append the labels of a request and return how many; they are in the log when this returns.

        Whether their predictions exist is not looked up: they may be of another worker, weeks old and sealed; a label
        that joins no prediction is counted when labels are joined.
        """
        records = read_label_request(body, self.clock.now_ms())
        if records:
            self._labels.append(self.log.clean_labels(records))
            self.metrics.labels.inc(len(records))
        return len(records)

    async def watch(self, interval: float = 0.1) -> None:
        """Follow the deployment file: reload it, in a thread, whenever it was replaced."""
        while True:
            await asyncio.sleep(interval)
            self._close_lanes()
            if self._stamp() != self._seen:
                await run_in_thread(self.reload)

    async def finish(self, seconds: float) -> None:
        """Wait until everything that was accepted is predicted, shadows too, but no longer than ``seconds``."""
        end = perf_counter() + seconds
        while not self.is_idle and perf_counter() < end:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """Close the logs."""
        self.log.close()
        self._labels.close()

    def _admit(self) -> None:
        """Refuse, before it is even parsed, what would have to wait behind too many others."""
        if sum(lane.waiting for lane in self._lanes.values()) >= self.options.limits.max_waiting:
            raise Overloaded(f"Endpoint {self.name} has too much to do.", hint="Try again in a second.")
        if self.is_sick:
            raise Overloaded(f"Endpoint {self.name} is about to restart.", hint="Try again in a second.")

    def _choose(self, call: Call, parsed: Parsed, router: Router) -> LoadedVariant:
        """Return the variant the client asks for, or the one its key or chance leads to."""
        if call.version:
            return router.with_version(call.version)
        if call.variant_name:
            return router.with_name(call.variant_name)
        field_name = router.deployment.split_field or self.options.split_field
        if field_name and not call.split_key:
            plan = router.variants[0].model.plan
            value = parsed.read(plan).first(field_name, plan)
            call.split_key = "" if value is None else str(value)[:200]
        return router.choose(call.split_key or call.id)

    def _job(self, call: Call, parsed: Parsed, variant: LoadedVariant, *, is_shadow: bool = False) -> Job:
        """Read and check a call for a variant's model."""
        model = variant.model
        call.given = parsed.read(model.plan)
        if self._hides and call.given.text:
            call.given = replace(call.given, text=b"")
        params = check_params(model.plan, parsed.params, MLFLOW)
        checked = call.given.check(model.plan, parsed.rules, params)
        call.rows = checked.rows
        methods = tuple(name for name in parsed.outputs if name in model.methods or name == PREDICT)
        seconds = parsed.timeout_ms / 1000 or call.seconds
        if isinf(seconds):
            seconds = self.options.limits.seconds
        return Job(call, checked, methods or (PREDICT,), call.started + seconds, is_shadow)

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Log a batch in one write, and only then answer its requests."""
        if jobs[0].is_shadow:
            self._log_shadows(jobs)
            return
        done = [self._finish(job) for job in jobs]
        replies, records = [reply for reply, _ in done], [record for _, record in done]
        try:
            self._append(records)
        except Unavailable as failure:
            _logger.error("prediction.log.failed", extra={"fields": {"error": str(failure)}})
            replies = [job.call.wire.fault(failure) for job in jobs]
        self.metrics.observe_batch(jobs[0])
        for job, reply in zip(jobs, replies, strict=True):
            call = job.call
            self._observe(call, reply.status, call.rows if reply.status == 200 else 0)
            self._reply(call, reply)
            if call.router is not None and call.router.has_mirrors and reply.status == 200:
                self._shadows.add(call)

    def _finish(self, job: Job) -> tuple[Reply, PredictionRecord]:
        """Make the reply to a request and its record; whatever goes wrong, there is one."""
        if job.error is None:
            try:
                return self._render(job), recording.answered(self.name, job)
            except MainspringError as error:
                job.error = error
        try:
            return job.call.wire.fault(job.error), recording.refused(self.name, job.call, job.error)
        except Exception:  # supervision point: nobody waits for an answer that never comes
            _logger.exception("record.failed")
            job.call.given = None
            return job.call.wire.fault(job.error), recording.refused(self.name, job.call, job.error)

    def _render(self, job: Job) -> Reply:
        call = job.call
        assert call.variant is not None
        assert call.parsed is not None
        assert job.outputs is not None
        try:
            return call.wire.render(call.parsed, Answer(call.id, self.name, call.variant.model, job.outputs))
        except _UNWRITABLE as error:
            _logger.exception("answer.unwritable", extra={"fields": {"model": call.variant.model.reference.name}})
            raise ModelFailed("The model answered what cannot be sent.", hint=_HINT) from error

    def _reply(self, call: Call, reply: Reply) -> None:
        """Send a reply that says which request this was and what answered it."""
        headers = ((b"x-request-id", call.id.encode()), *reply.headers)
        if reply.status == 503:
            headers += (RETRY_AFTER,)
        if call.variant is not None:
            headers += call.variant.headers
        if call.trace_id:
            span = TraceContext(call.trace_id, span_of(call.id), call.parent_id != NOT_RECORDED)
            headers += ((TRACEPARENT, span.header),)
        call.respond(Reply(reply.status, reply.body, reply.content_type, headers))

    def _observe(self, call: Call, status: int, rows: int) -> None:
        variant = call.variant
        name, version = (variant.name, variant.model.reference.version) if variant else ("", "")
        self.metrics.observe(name, version, status, perf_counter() - call.started, rows)

    def _submit_shadow(self, call: Call, variant: LoadedVariant) -> Job:
        assert call.parsed is not None
        job = self._job(call, call.parsed, variant, is_shadow=True)
        self._lane_of(variant.model).submit(job)
        return job

    def _fail_shadow(self, call: Call, error: MainspringError) -> None:
        self._append_shadows([recording.refused(self.name, call, error, shadow=True)])

    def _log_shadows(self, jobs: Sequence[Job]) -> None:
        records = []
        for job in jobs:
            variant = job.call.variant
            assert variant is not None
            if job.error is None:
                self.metrics.observe_shadow(variant.name, variant.model.reference.version, job.call.rows)
                records.append(recording.answered(self.name, job))
            else:
                records.append(recording.refused(self.name, job.call, job.error, shadow=True))
        self._append_shadows(records)
        self._shadows.finished(len(jobs))

    def _append_shadows(self, records: list[PredictionRecord]) -> None:
        try:
            self._append(records)
        except Unavailable as failure:
            _logger.error("shadow.log.failed", extra={"fields": {"error": str(failure)}})

    def _append(self, records: list[PredictionRecord]) -> None:
        before = self.log.written
        try:
            self.log.append(records)
        except Unavailable:
            self.metrics.log_failures.inc(len(records))
            raise
        self.metrics.log_bytes.inc(self.log.written - before)
        if self.log.dropped != self._dropped:
            self.metrics.log_failures.inc(self.log.dropped - self._dropped)
            self._dropped = self.log.dropped

    def _lane_of(self, model: LoadedModel) -> Lane:
        lane = self._lanes.get(id(model))
        if lane is None:
            lane = self._lanes[id(model)] = Lane(model, self.options.limits, self._answer)
        return lane

    def _close_lanes(self) -> None:
        """Let go of the models that no longer answer, once their last batch is done."""
        router = self.router
        if router is None or len(self._lanes) <= len(router.variants):
            return
        kept = {id(variant.model) for variant in router.variants}
        for key, lane in list(self._lanes.items()):
            if key not in kept and lane.is_idle:
                lane.close()
                del self._lanes[key]

    def _load(self, reference: ModelReference) -> LoadedModel:
        return load_model(reference, allow_pickle=self.options.allow_pickle, trust_types=self.options.trust_types)

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.deployment_path.stat()
        except FileNotFoundError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)
