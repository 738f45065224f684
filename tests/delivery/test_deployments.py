from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mainspring.core import Conflict, InvalidInput
from mainspring.delivery import (
    deploy,
    deployments,
    latest_deployment,
    list_deployments,
    plan_deployment,
    restore_file,
    save_deployment,
)
from mainspring.lineage import get_event
from mainspring.serving import ModelReference, read_deployment


def model(version: str) -> ModelReference:
    return ModelReference(name="m", version=version, digest="sha256:" + version * 64, folder=f"/models/{version}")


def shares(deployment) -> dict[str, tuple[str, int, bool]]:
    return {v.name: (v.model.version, v.weight, v.mirror) for v in deployment.variants}


def test_a_champion_alone_answers_everything():
    assert shares(plan_deployment("e", model("1"))) == {"champion": ("1", 100, True)}


def test_a_canary_takes_its_share_and_everybody_mirrors_the_rest():
    planned = plan_deployment("e", model("2"), canary=model("3"), baseline=model("1"), canary_percent=20, revision=7)
    assert planned.revision == 7
    assert shares(planned) == {"champion": ("2", 80, True), "canary": ("3", 20, True), "baseline": ("1", 0, True)}


@pytest.mark.parametrize("percent", [0, 100, -5, 120])
def test_a_canary_cannot_take_nothing_or_everything(percent):
    with pytest.raises(InvalidInput):
        plan_deployment("e", model("2"), canary=model("3"), canary_percent=percent)
    assert len(plan_deployment("e", model("2"), canary_percent=percent).variants) == 1


def test_revisions_are_kept_with_their_event(database, clock):
    with database.write() as connection:
        for revision in (1, 2):
            document = plan_deployment("e", model(str(revision)), revision=revision)
            kept = save_deployment(connection, clock, document, actor="ann", reason="new champion", cause="c")
        save_deployment(connection, clock, plan_deployment("other", model("1")), actor="ann", reason="")
        assert latest_deployment(connection, "e") == kept
        assert [entry.revision for entry in list_deployments(connection, "e")] == [2, 1]
        assert latest_deployment(connection, "nowhere") is None
        event = get_event(connection, kept.event)
    assert (event.type, event.subject, event.cause) == ("deployment.written", "e", "c")
    assert event.data["variants"] == {"champion": "2 (100 %)"}


def test_a_revision_is_written_once(database, clock):
    document = plan_deployment("e", model("1"))
    with database.write() as connection:
        save_deployment(connection, clock, document, actor="ann", reason="")
    with pytest.raises(Conflict, match="Revision 1"), database.write() as connection:
        save_deployment(connection, clock, document, actor="bob", reason="")


def test_a_missing_stale_or_broken_file_is_written_anew_and_a_right_one_left_alone(tmp_path):
    document = plan_deployment("e", model("2"), revision=2)
    path = tmp_path / "deployment.json"
    for before in (None, b"{", b"[]", None):
        if before is not None:
            path.write_bytes(before)
        else:
            path.unlink(missing_ok=True)
        assert restore_file(tmp_path, document)
        assert read_deployment(path) == document
    assert restore_file(tmp_path, plan_deployment("e", model("3"), revision=3))
    stamp = path.stat().st_mtime_ns
    assert not restore_file(tmp_path, plan_deployment("e", model("3"), revision=3))
    assert path.stat().st_mtime_ns == stamp


def version(number: str) -> SimpleNamespace:
    return SimpleNamespace(name="m", version=number, digest="sha256:" + number * 64)


@pytest.fixture
def put(sqlite_database, blobs, clock, tmp_path, monkeypatch):
    """Deploy versions whose files are not needed here."""

    def materialise(_blobs, digest: str, folder: Path) -> Path:
        return folder / digest[-1]

    monkeypatch.setattr(deployments, "materialise", materialise)

    def put(champion: str, **changes: object):
        fields = {
            "endpoint_folder": tmp_path / "e",
            "models_folder": tmp_path / "models",
            "actor": "ann",
            "reason": "r",
        }
        return deploy(sqlite_database, blobs, clock, endpoint="e", champion=version(champion), **{**fields, **changes})

    return put


def test_deploying_writes_a_row_and_the_file_the_endpoint_reads(put, sqlite_database, tmp_path):
    put("1")
    kept = put("1", canary=version("2"), baseline=version("1"), canary_percent=30, cause="rollout-event")
    written = read_deployment(tmp_path / "e" / "deployment.json")
    assert written == kept.document
    assert written.revision == 2
    assert [(v.name, v.weight) for v in written.variants] == [("champion", 70), ("canary", 30), ("baseline", 0)]
    assert written.variants[1].model.folder == str(tmp_path / "models" / "2")
    with sqlite_database.read() as connection:
        assert [entry.cause for entry in list_deployments(connection, "e")] == ["rollout-event", None]


def test_deploying_the_same_again_adds_nothing_but_repairs_the_file(put, sqlite_database, tmp_path):
    first = put("1")
    (tmp_path / "e" / "deployment.json").unlink()
    assert put("1", reason="again") == first
    assert read_deployment(tmp_path / "e" / "deployment.json").revision == 1
    with sqlite_database.read() as connection:
        assert len(list_deployments(connection, "e")) == 1
