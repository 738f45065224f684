"""What the endpoint tells Prometheus: labels come from the deployment and the status codes, never from requests.

The text format is written here: the client library brings an HTTP server, TLS and 8 MB with it, and counting is on the
path of every request. Numbers of several workers are added up by `merge_samples`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from mainspring.serving.batcher import Job

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_LABELS = ("endpoint", "variant", "version")
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One number of one series, as workers pass it to each other."""

    family: str
    words: str
    kind: Kind
    name: str
    labels: Labels
    value: float


class Number:
    """A counter or a gauge of one set of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count."""
        self.value += amount

    def set(self, value: float) -> None:
        """Say how much it is now."""
        self.value = value

    def samples(self, family: Family, labels: Labels) -> list[Sample]:
        """Return its one number."""
        return [Sample(family.name, family.words, family.kind, family.name, labels, self.value)]


class Distribution:
    """A histogram of one set of labels."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, family: Family, labels: Labels) -> list[Sample]:
        """Return the buckets, the sum and the count."""
        name, words, kind = family.name, family.words, family.kind
        totals = list(accumulate(self._counts))
        bounds = [*map(_text, self._bounds), "+Inf"]
        found = [
            Sample(name, words, kind, f"{name}_bucket", (*labels, ("le", bound)), float(total))
            for bound, total in zip(bounds, totals, strict=True)
        ]
        found.append(Sample(name, words, kind, f"{name}_sum", labels, self._sum))
        found.append(Sample(name, words, kind, f"{name}_count", labels, float(totals[-1])))
        return found


class Family:
    """All series of one name."""

    def __init__(self, kind: Kind, name: str, words: str, labels: Sequence[str], bounds: Sequence[float] = ()) -> None:
        self.kind: Kind = kind
        self.name = f"{name}_total" if kind == "counter" else name
        self.words = words
        self._labels = labels
        self._bounds = bounds
        self._numbers: dict[tuple[str, ...], Number] = {}
        self._distributions: dict[tuple[str, ...], Distribution] = {}

    def number(self, *values: str) -> Number:
        """Return the series of these labels' values."""
        return self._numbers.setdefault(values, Number())

    def distribution(self, *values: str) -> Distribution:
        """Return the series of these labels' values."""
        return self._distributions.setdefault(values, Distribution(self._bounds))

    def samples(self) -> list[Sample]:
        """Return every number of every series."""
        children: dict[tuple[str, ...], Number | Distribution] = {**self._numbers, **self._distributions}
        return [
            sample
            for values, child in children.items()
            for sample in child.samples(self, tuple(zip(self._labels, values, strict=True)))
        ]


class Metrics:
    """The metrics of one endpoint process."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._requests = Family("counter", "mainspring_requests", "Prediction requests answered.", (*_LABELS, "code"))
        self._seconds = Family("histogram", "mainspring_request_seconds", "Time to answer.", _LABELS, _SECONDS)
        self._rows = Family("counter", "mainspring_rows", "Rows predicted for callers.", _LABELS)
        self._shadows = Family("counter", "mainspring_shadow_rows", "Rows predicted in shadow.", _LABELS)
        self._predict = Family("histogram", "mainspring_predict_seconds", "Time of a model call.", _LABELS, _SECONDS)
        self._queue = Family(
            "histogram", "mainspring_queue_seconds", "Time a batch's first request waited.", _LABELS, _SECONDS
        )
        self._batch = Family("histogram", "mainspring_batch_rows", "Rows of a model call.", _LABELS, _ROWS)
        self._families = [self._requests, self._seconds, self._rows, self._shadows]
        self._families += [self._predict, self._queue, self._batch]
        self.overloaded = self._one("counter", "mainspring_overloaded", "Requests refused: too many waited.")
        self.shadows_dropped = self._one(
            "counter", "mainspring_shadow_dropped", "Requests not shadowed: the queue was full."
        )
        self.log_bytes = self._one(
            "counter", "mainspring_prediction_log_bytes", "Bytes appended to the prediction log."
        )
        self.log_failures = self._one("counter", "mainspring_prediction_log_failures", "Records the disk refused.")
        self.labels = self._one("counter", "mainspring_labels", "Labels received.")
        self.revision = self._one("gauge", "mainspring_deployment_revision", "Revision of the deployment that answers.")
        self.deployment_error = self._one(
            "gauge", "mainspring_deployment_error", "1 while the newest deployment file cannot be loaded."
        )
        self._bound: dict[tuple[str, str, int], tuple[Number, Distribution, Number]] = {}
        self._bound_batches: dict[tuple[str, str], tuple[Distribution, Distribution, Distribution]] = {}

    def observe(self, variant: str, version: str, code: int, seconds: float, rows: int) -> None:
        """Count one answered request."""
        bound = self._bound.get((variant, version, code))
        if bound is None:
            labels = (self._endpoint, variant, version)
            bound = (
                self._requests.number(*labels, str(code)),
                self._seconds.distribution(*labels),
                self._rows.number(*labels),
            )
            self._bound[(variant, version, code)] = bound
        bound[0].value += 1
        bound[1].observe(seconds)
        bound[2].value += rows

    def observe_batch(self, job: Job) -> None:
        """Count one model call, by the first request of its batch."""
        variant = job.call.variant
        if variant is None or not job.batch_rows:
            return
        key = (variant.name, variant.model.reference.version)
        bound = self._bound_batches.get(key)
        if bound is None:
            labels = (self._endpoint, *key)
            bound = (
                self._predict.distribution(*labels),
                self._queue.distribution(*labels),
                self._batch.distribution(*labels),
            )
            self._bound_batches[key] = bound
        bound[0].observe(job.predict_seconds)
        bound[1].observe(job.started_at - job.queued_at)
        bound[2].observe(job.batch_rows)

    def observe_shadow(self, variant: str, version: str, rows: int) -> None:
        """Count one shadowed request."""
        self._shadows.number(self._endpoint, variant, version).inc(rows)

    def samples(self) -> list[Sample]:
        """Return every number."""
        return [sample for family in self._families for sample in family.samples()]

    def render(self) -> bytes:
        """Write the metrics in Prometheus's text format."""
        return render_samples(self.samples())

    def _one(self, kind: Kind, name: str, words: str) -> Number:
        family = Family(kind, name, words, ("endpoint",))
        self._families.append(family)
        return family.number(self._endpoint)


def merge_samples(parts: Iterable[Iterable[Sample]]) -> list[Sample]:
    """Add the numbers of several workers up; of gauges the largest counts."""
    merged: dict[tuple[str, Labels], Sample] = {}
    for part in parts:
        for sample in part:
            key = (sample.name, sample.labels)
            known = merged.get(key)
            if known is None:
                merged[key] = sample
            else:
                value = max(known.value, sample.value) if sample.kind == "gauge" else known.value + sample.value
                merged[key] = msgspec.structs.replace(known, value=value)
    return list(merged.values())


def write_samples(path: Path, samples: list[Sample]) -> None:
    """Leave a worker's numbers where its siblings find them."""
    aside = path.with_suffix(".part")
    aside.write_bytes(msgspec.json.encode(samples))
    aside.replace(path)


def read_samples(path: Path) -> list[Sample]:
    """Read a worker's numbers; none if it has gone meanwhile."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Sample])
    except FileNotFoundError:
        return []


def render_samples(samples: Iterable[Sample]) -> bytes:
    """Write numbers in Prometheus's text format 0.0.4, family by family."""
    families: dict[str, list[Sample]] = {}
    for sample in samples:
        families.setdefault(sample.family, []).append(sample)
    lines = []
    for name, members in families.items():
        lines += [f"# HELP {name} {members[0].words}", f"# TYPE {name} {members[0].kind}"]
        for sample in members:
            labels = ",".join(f'{label}="{_escape(value)}"' for label, value in sorted(sample.labels))
            lines.append(f"{sample.name}{{{labels}}} {_text(sample.value)}")
    return ("\n".join(lines) + "\n").encode()


def _text(value: float) -> str:
    return repr(float(value))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
