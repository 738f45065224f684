"""Gather a window of the prediction log table by table: what is counted is counted, what is not needed is let go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mainspring.datasets import Profile, Schema, merge_profiles, profile_frame
from mainspring.monitoring.frames import feature_frame, order_rows, table_frame
from mainspring.monitoring.windows import Window
from mainspring.serving.columnar import INPUT_PREFIX, record_table

CHUNK_ROWS = 200_000
"""Rows whose features are profiled at once; a window of fewer is profiled exactly, as one."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """How much was asked: requests (refused ones included), refused requests, logged answered rows.

    ``requests`` is an estimate where only a sample is logged; ``sample`` is the least share that was.
    """

    requests: int
    refused: int
    rows: int
    sample: float = 1.0


class RunningProfile:
    """A profile of features that pass in chunks, in the form of a reference where there is one."""

    def __init__(self, reference: Profile | None = None) -> None:
        self._reference = dict(reference.columns) if reference else {}
        self._kinds: dict[str, pl.DataType] = {}
        self._profile = Profile(rows=0, columns={})

    def profile(self) -> Profile:
        """Return the profile of what passed so far."""
        return self._profile

    def add(self, frame: pl.DataFrame) -> None:
        """Take in some rows; a column that comes late was null before, one that stays away is null."""
        if frame.height == 0:
            return
        before = self._profile
        chunk = self._profile_of(self._align(frame))
        if before.rows:
            missing = [name for name in chunk.columns if name not in before.columns]
            nulls = pl.DataFrame([pl.Series(name, [None] * before.rows, self._kinds[name]) for name in missing])
            late = self._profile_of(nulls).columns if missing else {}
            order = list(chunk.columns)
            columns = {name: late[name] if name in late else before.columns[name] for name in order}
            chunk = merge_profiles([Profile(rows=before.rows, columns=columns), chunk])
        self._profile = chunk
        for name, column in chunk.columns.items():
            self._reference.setdefault(name, column)

    def _profile_of(self, frame: pl.DataFrame) -> Profile:
        return profile_frame(frame, reference=Profile(rows=0, columns=self._reference))

    def _align(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Give the columns the kinds they had before, numbers or texts, and add those that are missing."""
        first: list[pl.Series] = []
        for name, kind in self._kinds.items():
            values = frame[name] if name in frame.columns else pl.Series(name, [None] * frame.height, kind)
            if kind == pl.Null and values.dtype != pl.Null:
                self._forget(name)
            elif (values.dtype == pl.String) != (kind == pl.String) and kind != pl.Null:
                values = values.cast(kind, strict=False)
            first.append(values)
        new = [frame[name] for name in frame.columns if name not in self._kinds]
        self._kinds.update({values.name: values.dtype for values in (*first, *new) if self._is_new(values)})
        return pl.DataFrame([*first, *new])

    def _is_new(self, values: pl.Series) -> bool:
        return self._kinds.get(values.name, pl.Null()) == pl.Null

    def _forget(self, name: str) -> None:
        """Drop the profile of a column that had no value yet, now that it is known what it holds."""
        columns = {key: value for key, value in self._profile.columns.items() if key != name}
        self._profile = Profile(rows=self._profile.rows, columns=columns)
        self._reference.pop(name, None)


class Gathering:
    """One window of the log as it passes: narrow rows are kept, features are profiled and let go."""

    def __init__(
        self,
        window: Window,
        *,
        keys: Sequence[str] = (),
        features: Sequence[str] | None = None,
        schema: Schema | None = None,
        reference: Profile | None = None,
    ) -> None:
        self.plain = RunningProfile()
        self.compared = RunningProfile(reference)
        self._window = window
        self._key_names = list(keys)
        self._keys = [INPUT_PREFIX + name for name in keys]
        self._features = list(features) if features is not None else None
        self._whole = {feature.name for feature in schema.features if feature.type == "INT"} if schema else set()
        self._narrow: list[pl.DataFrame] = []
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._seen: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._hidden: set[str] = set()
        """Columns that are left out of the log or hashed: what is there does not look like the training data."""
        self._requests = 0.0
        self._refused = 0
        self._sample = 1.0

    @property
    def names(self) -> list[str]:
        """The features that are looked at: those asked for, or all that were sent; none that are personal."""
        names = self._features if self._features is not None else list(self.plain.profile().columns)
        return [name for name in names if not self._is_hidden(name)]

    def add(self, table: pa.Table) -> None:
        """Take in the records of a table that are inside the window."""
        received = table.column("received_at")
        inside = pc.and_(pc.greater_equal(received, self._window.start), pc.less(received, self._window.end))
        table = table.filter(inside)
        if table.num_rows == 0:
            return
        self._count(table)
        if "hidden" in table.schema.names:
            self._hidden.update(pc.unique(pc.list_flatten(table.column("hidden"))).to_pylist())
        wanted = None if self._features is None else [*self._features, *self._key_names]
        frame = order_rows([table_frame(table, wanted)])
        narrow = [name for name in frame.columns if not name.startswith(INPUT_PREFIX) or name in self._keys]
        self._narrow.append(frame.select(narrow))
        self._waiting.append(feature_frame(self._first_time(frame)))
        self._waiting_rows += frame.height
        if self._waiting_rows >= CHUNK_ROWS:
            self._profile_waiting()

    def rows(self) -> pl.DataFrame:
        """Return the narrow rows of the whole window, in the order of the requests."""
        self._profile_waiting()
        return order_rows(self._narrow or [table_frame(record_table([]))])

    def volume(self, rows: int) -> Volume:
        """Return how much was asked; ``rows`` were answered."""
        return Volume(requests=round(self._requests), refused=self._refused, rows=rows, sample=self._sample)

    def _is_hidden(self, name: str) -> bool:
        return name.strip().casefold() in self._hidden

    def _count(self, table: pa.Table) -> None:
        asked = table.filter(pc.invert(table.column("shadow")))
        self._refused += asked.num_rows - (pc.sum(pc.equal(asked.column("status"), 200)).as_py() or 0)
        if "sample" not in table.schema.names or not asked.num_rows:
            self._requests += asked.num_rows
            return
        shares = asked.column("sample").to_numpy()
        self._requests += float((1 / shares).sum())
        self._sample = min(self._sample, float(shares.min()))

    def _first_time(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Keep the rows of requests that no earlier table held: one that is sent again is no new evidence."""
        ids = frame["request_id"].hash().to_numpy()
        places = np.searchsorted(self._seen, ids)
        known = np.zeros(ids.size, dtype=bool)
        within = places < self._seen.size
        known[within] = self._seen[places[within]] == ids[within]
        answered = ~frame["shadow"].to_numpy()
        self._seen = np.union1d(self._seen, ids[answered])
        return frame.filter(pl.Series(~known))

    def _profile_waiting(self) -> None:
        if not self._waiting:
            return
        inputs = pl.concat(self._waiting, how="diagonal_relaxed")
        self._waiting, self._waiting_rows = [], 0
        wanted = self._features if self._features is not None else inputs.columns
        inputs = inputs.select([name for name in wanted if name in inputs.columns and not self._is_hidden(name)])
        inputs = inputs.with_columns(_whole_numbers(inputs, self._whole))
        self.plain.add(inputs)
        self.compared.add(inputs)


def _whole_numbers(inputs: pl.DataFrame, wanted: Iterable[str]) -> list[pl.Series]:
    """Turn whole numbers that JSON carried as floats back into integers where the schema expects them."""
    return [
        inputs[name].cast(pl.Int64)
        for name in wanted
        if name in inputs.columns
        and inputs.schema[name] == pl.Float64
        and bool((inputs[name].drop_nulls() % 1 == 0).all())
    ]
