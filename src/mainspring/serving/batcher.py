"""Natural micro-batching: what arrives in one turn of the event loop is predicted together; nothing waits for a timer.

Every model has a `Lane`. A quick model is called on the event loop (the next batch gathers in the sockets meanwhile);
any other in the model's own thread (the next batch gathers in the lane), so that a slow model delays only itself.
Requests are checked before they join. When a batch fails all the same, its requests are predicted in ever smaller
groups until only those that make the model fail are left.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from time import perf_counter

from mainspring.core import MainspringError
from mainspring.serving.calls import Call
from mainspring.serving.checked import Checked, can_join, concatenate
from mainspring.serving.faults import BadRequest, ModelFailed, TooLate
from mainspring.serving.models import LoadedModel
from mainspring.serving.outputs import PREDICT, Outputs

_logger = logging.getLogger("mainspring.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is predicted together, how much may wait, and how long."""

    max_rows: int = 1_024
    """Rows of one call of the model; a larger request is predicted alone."""
    loop_rows: int = 256
    """Rows up to which a quick model is called on the event loop before it is known how long it takes."""
    loop_seconds: float = 0.002
    """How long a call on the event loop may be expected to take."""
    max_waiting: int = 1_000
    """Requests of one model that may wait."""
    seconds: float = 60.0
    """How long a request may take, unless it says less itself."""
    max_stuck: int = 2
    """Calls that may never return before the process is beyond help."""


@dataclass(slots=True, eq=False)
class Job:
    """A checked request on its way through a lane."""

    call: Call
    checked: Checked
    methods: tuple[str, ...] = (PREDICT,)
    """Which of the model's methods to call."""
    deadline: float = float("inf")
    """When, by `perf_counter`, nobody waits any more."""
    is_shadow: bool = False
    queued_at: float = field(default_factory=perf_counter)
    outputs: Outputs | None = None
    error: MainspringError | None = None
    started_at: float = 0.0
    predict_seconds: float = 0.0
    batch_rows: int = 0


class Lane:
    """The queue of one model; everything but the model call happens on the event loop."""

    def __init__(self, model: LoadedModel, limits: BatchLimits, answer: Callable[[Sequence[Job]], None]) -> None:
        self.model = model
        self.limits = limits
        self.stuck = 0
        """Calls of this model that have not returned in time."""
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Job] = deque()
        self._shadows: deque[Job] = deque()
        self._is_scheduled = False
        self._running: list[Job] = []
        self._thread: ModelThread | None = None
        self._sample: Checked | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._newest_call = (0.0, 0)
        """Seconds and rows of it; no rows before the first."""

    @property
    def waiting(self) -> int:
        """Requests that are not being predicted yet."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._shadows or self._running)

    def submit(self, job: Job) -> None:
        """Take a request; the answer comes through the lane's ``answer``, with all that share its batch."""
        (self._shadows if job.is_shadow else self._waiting).append(job)
        if not self._is_scheduled and not self._running:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Let the model's thread end when it is done."""
        if self._thread is not None:
            self._thread.close()

    def _flush(self) -> None:
        """Predict what has gathered."""
        self._is_scheduled = False
        if self._running:
            return
        jobs, late = take_batch(self._waiting or self._shadows, self.limits.max_rows)
        if late:
            self._answer(late)
        if jobs:
            if self._is_brief(sum(job.checked.rows for job in jobs)):
                self._sample = predict_jobs(self.model, jobs, self._sample)
                self._learn(jobs[0])
                self._answer(jobs)
            else:
                self._hand_over(jobs)
                return
        self._go_on()

    def _is_brief(self, rows: int) -> bool:
        """Say whether a call with so many rows is expected to be over before anybody notices."""
        if not self.model.is_quick:
            return False
        seconds, known_rows = self._newest_call
        if not known_rows:
            return rows <= self.limits.loop_rows
        return seconds * max(1.0, rows / known_rows) <= self.limits.loop_seconds

    def _learn(self, job: Job) -> None:
        """Remember how long the newest call took."""
        self._newest_call = (job.predict_seconds, job.batch_rows)

    def _go_on(self) -> None:
        if (self._waiting or self._shadows) and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _hand_over(self, jobs: list[Job]) -> None:
        """Predict in the model's thread, and have an eye on the time."""
        if self._thread is None:
            self._thread = ModelThread(self.model.reference.name)
        self._running = jobs
        self._timer = self._loop.call_later(self.limits.seconds, self._give_up, jobs)
        sample = self._sample
        copies = [replace(job) for job in jobs]  # the thread's own: the jobs may be answered for before it is done

        def work() -> None:
            found = predict_jobs(self.model, copies, sample)
            self._loop.call_soon_threadsafe(self._returned, jobs, copies, found)

        self._thread.run(work)

    def _returned(self, jobs: list[Job], copies: list[Job], sample: Checked | None) -> None:
        if jobs is not self._running:
            self.stuck -= 1  # it came back after all; its requests have their answer
            return
        for job, copy in zip(jobs, copies, strict=True):
            job.outputs, job.error = copy.outputs, copy.error
            job.started_at, job.predict_seconds, job.batch_rows = copy.started_at, copy.predict_seconds, copy.batch_rows
        if self._timer is not None:
            self._timer.cancel()
        self._running = []
        self._sample = sample
        self._learn(jobs[0])
        self._answer(jobs)
        self._go_on()

    def _give_up(self, jobs: list[Job]) -> None:
        """Answer for a call that does not return, and leave its thread behind."""
        if jobs is not self._running:
            return
        self.stuck += 1
        self._running = []
        if self._thread is not None:
            self._thread.close()
            self._thread = None
        _logger.error("model.stuck", extra={"fields": {"model": self.model.reference.name, "stuck": self.stuck}})
        for job in jobs:
            job.error = TooLate(f"The model did not answer within {self.limits.seconds:g} seconds.")
        self._answer(jobs)
        self._go_on()


def take_batch(waiting: deque[Job], max_rows: int) -> tuple[list[Job], list[Job]]:
    """Take from a queue the requests that can be predicted together, first come first, and those that are too late."""
    now = perf_counter()
    batch: list[Job] = []
    late: list[Job] = []
    left: list[Job] = []
    rows = 0
    while waiting and rows < max_rows:
        job = waiting.popleft()
        if job.deadline < now:
            job.error = TooLate("The time for this request had passed before its turn came.")
            late.append(job)
        elif not batch or (job.methods == batch[0].methods and can_join(batch[0].checked, job.checked)):
            if batch and rows + job.checked.rows > max_rows:
                left.append(job)
                break
            batch.append(job)
            rows += job.checked.rows
        else:
            left.append(job)
            if len(left) >= max_rows:
                break
    waiting.extendleft(reversed(left))
    return batch, late


def predict_jobs(model: LoadedModel, jobs: Sequence[Job], sample: Checked | None) -> Checked | None:
    """Predict a batch and give each request its rows or its error; return a row the model is known to predict.

    ``sample`` is such a row from before: if the model fails on it now, the model is at fault and not the request.
    """
    started = perf_counter()
    rows = sum(job.checked.rows for job in jobs)
    attempts = _Attempts(model, sample)
    attempts.solve(list(jobs))
    failed = [job for job in jobs if job.error is not None]
    good = next((job for job in jobs if job.error is None), None)
    if failed:
        _blame(failed, works=good is not None or attempts.works_on_sample())
    seconds = perf_counter() - started
    for job in jobs:
        job.started_at, job.predict_seconds, job.batch_rows = started, seconds, rows
    if sample is None and good is not None:
        return good.checked.slice(0, 1)
    return sample


def _blame(failed: list[Job], *, works: bool) -> None:
    """Say whose fault it is: the request's if the model predicts others, else the model's."""
    for job in failed:
        if isinstance(job.error, BadRequest):
            continue
        if works:
            job.error = BadRequest("the model cannot predict these values", hint="It predicts other requests.")
        else:
            job.error = ModelFailed("The model failed on this request.", hint="The endpoint's log has the reason.")


class _Attempts:
    """Calls a model for a batch, then for parts of it."""

    def __init__(self, model: LoadedModel, sample: Checked | None) -> None:
        self._model = model
        self._sample = sample
        self._works: bool | None = None

    def solve(self, jobs: list[Job]) -> None:
        """Give every job its outputs, or an error to those the model fails on."""
        try:
            self._predict(jobs)
        except Exception as error:
            if len(jobs) > 1 and (self._sample is None or self.works_on_sample()):
                middle = len(jobs) // 2
                self.solve(jobs[:middle])
                self.solve(jobs[middle:])
                return
            for job in jobs:
                job.error = error if isinstance(error, BadRequest) else ModelFailed(type(error).__name__)
            if isinstance(error, BadRequest):
                return
            fields = {"model": self._model.reference.name, "requests": len(jobs)}
            _logger.warning("model.failed", exc_info=error, extra={"fields": fields})

    def works_on_sample(self) -> bool:
        """Say whether the model predicts a row it has predicted before; no such row is no evidence."""
        if self._works is None:
            self._works = self._sample is not None and self._try(self._sample)
        return self._works

    def _try(self, sample: Checked) -> bool:
        try:
            self._model.predict(sample)
        except Exception:  # noqa: BLE001 supervision point: a model may fail in any way
            return False
        return True

    def _predict(self, jobs: list[Job]) -> None:
        checked = concatenate([job.checked for job in jobs])
        outputs = call_methods(self._model, checked, jobs[0].methods)
        if outputs.rows != checked.rows and len(jobs) > 1:
            raise ModelFailed(f"{outputs.rows} answers to {checked.rows} rows")
        if len(jobs) == 1:
            jobs[0].outputs = outputs
            return
        start = 0
        for job in jobs:
            stop = start + job.checked.rows
            job.outputs = outputs.slice(start, stop)
            start = stop


def call_methods(model: LoadedModel, checked: Checked, methods: tuple[str, ...]) -> Outputs:
    """Call one or several methods of a model and put their outputs side by side."""
    found = [model.predict(checked) if name == PREDICT else model.methods[name](checked) for name in methods]
    if len(found) == 1:
        return found[0]
    names = tuple(name for outputs in found for name in outputs.names)
    return Outputs(names, tuple(array for outputs in found for array in outputs.arrays))


class ModelThread:
    """A thread that calls one model; a daemon, so that a call that never returns does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=f"model-{name}", daemon=True).start()

    def run(self, work: Callable[[], None]) -> None:
        """Do some work after what was given before."""
        self._work.put(work)

    def close(self) -> None:
        """End after the work that was given."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
