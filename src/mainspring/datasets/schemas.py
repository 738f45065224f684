"""Schemas: what a table should look like, in the vocabulary of TensorFlow Data Validation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from mainspring.core import Corrupt, InvalidInput
from mainspring.datasets.profiles import CategoricalProfile, ColumnProfile, DataType, NumericProfile, Profile

Environment = Literal["TRAINING", "SERVING"]

MOSTLY_PRESENT = 0.5
"""An inferred `Feature.min_fraction` is this part of the fraction seen; 1 if that was 1, 0 if it was less than this."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """What one column should look like; None means no expectation.

    ``min_fraction`` is the least share of rows with a value; ``domain`` lists the expected texts, of which
    ``min_domain_mass`` of the values have to be; ``minimum`` and ``maximum`` were seen, to be exceeded is unusual.
    """

    name: str
    type: DataType
    min_fraction: float = 0.0
    domain: list[str] | None = None
    min_domain_mass: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    not_in_environment: list[Environment] = []


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a table should look like, column by column."""

    features: list[Feature]

    def to_json(self) -> bytes:
        """Encode as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Schema:
        """Decode what `to_json` made; raise `Corrupt` if it is something else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise Corrupt(f"This is not a schema: {error}.") from error


def infer_schema(profile: Profile, *, label: str | None = None, unbounded: Collection[str] = ()) -> Schema:
    """Expect what the profile shows.

    The ``label`` may be absent in the environment SERVING. Columns named in ``unbounded`` always grow, like ids and
    times: no range is expected of them.
    """
    unknown = sorted({*unbounded, *([label] if label else [])} - profile.columns.keys())
    if unknown:
        raise InvalidInput(f"The profile has no column {', '.join(map(repr, unknown))}.")
    return Schema(
        features=[
            _infer_feature(name, column, rows=profile.rows, bounded=name not in unbounded, is_label=name == label)
            for name, column in profile.columns.items()
        ]
    )


def _infer_feature(name: str, column: ColumnProfile, *, rows: int, bounded: bool, is_label: bool) -> Feature:
    present = column.count / rows if rows else 0.0
    feature = Feature(
        name=name,
        type=column.type,
        min_fraction=_infer_min_fraction(present),
        not_in_environment=["SERVING"] if is_label else [],
    )
    if isinstance(column, CategoricalProfile):
        return msgspec.structs.replace(feature, domain=_infer_domain(column))
    if isinstance(column, NumericProfile) and bounded:
        return msgspec.structs.replace(feature, minimum=column.minimum, maximum=column.maximum)
    return feature


def _infer_domain(column: CategoricalProfile) -> list[str] | None:
    """Return the values, if the profile has all of them."""
    return None if column.other or not column.values else sorted(column.values)


def _infer_min_fraction(present: float) -> float:
    if present < MOSTLY_PRESENT:
        return 0.0
    return present if present == 1.0 else present * MOSTLY_PRESENT
