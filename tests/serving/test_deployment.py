"""The deployment file is checked when it is written and when it is read."""

from __future__ import annotations

import msgspec
import pytest

from mainspring.core import InvalidInput, NotFound
from mainspring.serving import Deployment, ModelReference, Variant, read_deployment, write_deployment

MODEL = ModelReference(name="m", version="3", digest="sha256:" + "a" * 64, folder="/models/m")


def _deployment(*variants: tuple[str, int], endpoint: str = "flights") -> Deployment:
    made = [Variant(name=name, weight=weight, model=MODEL) for name, weight in variants]
    return Deployment(endpoint=endpoint, revision=7, variants=made)


def test_a_deployment_is_read_as_it_was_written(tmp_path):
    deployment = _deployment(("champion", 80), ("canary", 20))
    write_deployment(tmp_path / "new" / "deployment.json", deployment)
    assert read_deployment(tmp_path / "new" / "deployment.json") == deployment
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["deployment.json"]


@pytest.mark.parametrize(
    ("deployment", "word"),
    [
        (_deployment(("a", 80), ("b", 10)), "100"),
        (_deployment(("a", 120), ("b", -20)), "100"),
        (_deployment(), "100"),
        (_deployment(("a", 50), ("a", 50)), "same name"),
        (_deployment(("a/b", 100)), "usable name"),
        (_deployment(("a", 100), endpoint="../x"), "usable name"),
        (
            msgspec.structs.replace(
                _deployment(),
                variants=[Variant(name="a", weight=100, model=msgspec.structs.replace(MODEL, digest="x"))],
            ),
            "digest",
        ),
    ],
)
def test_a_deployment_that_cannot_work_is_not_written(tmp_path, deployment, word):
    with pytest.raises(InvalidInput, match=word):
        write_deployment(tmp_path / "deployment.json", deployment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"endpoint": 1}', b"\xff"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, data):
    path = tmp_path / "deployment.json"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"deployment\.json"):
        read_deployment(path)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        read_deployment(tmp_path / "deployment.json")
