from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mainspring.components import profile_table, read_table, snapshot_table, split_rows, validate_table
from mainspring.core import Corrupt, Refused


@pytest.fixture
def checked(table, file):
    """Profile a table and validate it against another profile or schema."""

    def check(frame, expected=None, **options):
        names = {name: file(f"{name}{frame.height}{frame.width}") for name in ("profile", "schema", "anomalies")}
        profile_table(table("data", frame), profile=names["profile"])
        count = validate_table(**names, expected=expected, **options)
        return count, names

    return check


def test_rows_are_checked_against_the_profile_or_the_schema_of_earlier_ones(churned, checked) -> None:
    count, first = checked(churned(300), label="churn", unbounded=["signed", "customer"])
    assert (count, first["profile"].metadata["rows"]) == (0, 300)
    for expected in (first["profile"], first["schema"]):
        with pytest.raises(Refused, match="fee: SCHEMA_MISSING_COLUMN"):
            checked(churned(300).drop("fee"), expected)
    count, found = checked(churned(200).drop("fee"), first["schema"], stop=False)
    assert count >= 1
    assert msgspec.json.decode(Path(found["anomalies"].path).read_bytes())[0]["path"] == "fee"
    assert found["anomalies"].metadata["errors"] == 1


def test_what_is_neither_profile_nor_schema_is_corrupt(churned, checked, file) -> None:
    wrong = file("wrong")
    Path(wrong.path).write_text("[]")
    with pytest.raises(Corrupt, match="neither a profile nor a schema"):
        checked(churned(50), wrong)


def test_a_snapshot_grows_and_stands_for_all_its_rows(churned, table, file, tracking: Path) -> None:
    first, second = split_rows(churned(100), method="time", column="signed", test_fraction=0.3)
    kept = file("kept")
    snapshot_table(table("one", first), dataset="d", snapshot=kept, time_column="signed")
    reference = snapshot_table(table("two", second), dataset="d", snapshot=kept, time_column="signed")
    assert reference == f"dataset://d/{kept.metadata['mainspring_digest']}"
    assert read_table(kept).equals(churned(100))
    assert snapshot_table(table("two", second), dataset="d", snapshot=kept, time_column="signed") == reference
