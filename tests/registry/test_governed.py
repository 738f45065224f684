"""What may not happen to a model, what is told of it, and what stays known: stages, champions, warnings, history."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mainspring import lineage, registry
from mainspring.core import InvalidInput, NotFound
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.registry import Claim


@pytest.fixture
def champion(shelf):
    """A model whose first version is in production."""
    _, model_id = shelf.log_model()
    shelf.register(f"models:/{model_id}")
    with shelf.database.write() as connection:
        set_alias(connection, shelf, "champion", "1")
    return shelf


def set_alias(connection, shelf, alias: str, version: str) -> None:
    registry.set_alias(
        connection, shelf.clock, name="flights-delay", alias=alias, version=version, actor="ada", reason="better"
    )


def remove_version(connection, shelf, version: str) -> None:
    registry.remove_version(
        connection, shelf.clock, name="flights-delay", version=version, actor="bob", reason="unused"
    )


def test_history_tells_that_the_aliases_of_a_removed_model_are_gone(champion) -> None:
    with champion.database.write() as connection:
        champion.clock.advance(1)
        registry.remove_model(connection, champion.clock, name="flights-delay", actor="bob", reason="retired")
        with pytest.raises(NotFound):
            registry.get_model(connection, "flights-delay")
        (newest, oldest) = registry.alias_history(connection, "flights-delay")
    assert (newest.alias, newest.from_version, newest.to_version, newest.actor) == ("champion", "1", None, "bob")
    assert (oldest.from_version, oldest.to_version) == (None, "1")


def test_history_survives_a_rename_and_tells_of_removed_versions(champion) -> None:
    with champion.database.write() as connection:
        set_alias(connection, champion, "challenger", "1")
        registry.delete_alias(
            connection, champion.clock, name="flights-delay", alias="champion", actor="ada", reason="retired"
        )
        champion.clock.advance(1)
        remove_version(connection, champion, "1")
        registry.rename_model(connection, champion.clock, "flights-delay", "delay")
        (newest, *rest) = registry.alias_history(connection, "delay")
        assert registry.alias_history(connection, "flights-delay") == []
    assert (newest.alias, newest.from_version, newest.to_version, newest.actor) == ("challenger", "1", None, "bob")
    assert len(rest) == 3


def test_stages_move_and_archive(shelf) -> None:
    _, model_id = shelf.log_model()
    for _ in range(3):
        shelf.register(f"models:/{model_id}")
    with shelf.database.write() as connection:

        def move(version: str, stage: str, archives: bool = False) -> None:
            shelf.clock.advance(1)
            registry.transition_stage(
                connection, shelf.clock, "flights-delay", version, stage, archives_existing=archives
            )

        move("1", "production")
        move("2", "Production", True)
        stages = {found.version: found.stage for found in registry.list_versions(connection, "flights-delay")}
        assert stages == {"1": "Archived", "2": "Production", "3": "None"}
        latest = {found.stage: found.version for found in registry.latest_by_stage(connection, "flights-delay")}
        assert latest == {"Archived": "1", "Production": "2", "None": "3"}
        assert registry.resolve(connection, "models:/flights-delay/Production").version == "2"
        with pytest.raises(InvalidInput, match="Value must be one of None, Staging, Production, Archived"):
            move("1", "nope")
        with pytest.raises(InvalidInput, match="not an Active stage"):
            move("1", "None", True)
        moves = lineage.list_events(connection, types=("model.stage.moved",))
        assert [(event.data["from"], event.data["to"]) for event in moves] == [("None", "Production")] * 2


def test_files_that_run_code_are_warned_of(shelf) -> None:
    _, model_id = shelf.log_model()
    assert shelf.register(f"models:/{model_id}").warning == ""
    for name, data, warned in (
        ("python_model.pkl", b"x", True),
        ("model.skops", b"PK\x03\x04", False),
        ("odd-name.bin", b"\x80\x04\x95abc.", True),
        ("weights.safetensors", b"\x80\x00\x00\x00\x00", False),
    ):
        _, model_id = shelf.log_model()
        shelf.put(f"{shelf.experiment}/models/{model_id}/artifacts/{name}", data)
        warning = shelf.register(f"models:/{model_id}").warning
        assert (name in warning) == warned, name


CLAIMS = [
    ("runs:/r/model", "r", "", True), ("runs:/r/model", "", "", False), ("runs:/r/model", "other", "", False),
    ("runs:/r/model", "r", "m-1", False), ("models:/m-1", "", "m-1", True), ("models:/m-1", "", "", False),
    ("models:/m-1", "", "m-2", False), ("models:/name/1", "", "", True), ("s3://b/x", "", "", True),
    ("s3://b/../x", "", "", False), ("runs://h/r/x", "r", "", False), ("s3://b/x#y", "", "", False),
]  # fmt: skip


def test_a_source_in_a_run_or_logged_model_has_to_be_named_by_the_request() -> None:
    for uri, run_id, model_id, is_fine in CLAIMS:
        claim = Claim(uri=uri, run_id=run_id, logged_model_id=model_id)
        if is_fine:
            registry.check_claim(claim)
            continue
        with pytest.raises(InvalidInput):
            pytest.fail(f"{uri} {registry.check_claim(claim)}")


def test_files_in_an_object_store_stay_there(shelf) -> None:
    version = shelf.register("s3://bucket/model", run_id="somebody-elses")
    with shelf.database.read() as connection:
        uri = registry.get_download_uri(connection, shelf.blobs, "flights-delay", version.version)
    assert (uri, version.run_id) == ("s3://bucket/model", "somebody-elses")


def test_a_version_can_be_made_of_another(shelf) -> None:
    _, model_id = shelf.log_model()
    first = shelf.register(f"models:/{model_id}")
    with shelf.database.write() as connection:
        registry.create_model(connection, shelf.clock, "other")
        set_alias(connection, shelf, "best", "1")
    for number, source in enumerate(("1", "latest", "None"), start=1):
        made = shelf.register(f"models:/flights-delay/{source}", name="other")
        assert (made.digest, made.source, made.version) == (first.digest, "models:/flights-delay/1", str(number))
    assert shelf.register("models:/flights-delay@best", name="other").run_id == first.run_id
    for source in ("models:/flights-delay/9", "models:/flights-delay@nobody", "models:/flights-delay/Production"):
        with pytest.raises(NotFound):
            shelf.register(source, name="other")
    with pytest.raises(InvalidInput, match="must match"):
        shelf.register("models:/flights-delay/1", name="other", run_id="x")


def test_the_command_line_tells_the_history(tmp_path: Path) -> None:
    store = lineage.open_store(resolve_settings(tmp_path, flags={"actor": "ada"}), Project(project="test"))
    with store.database.write() as connection:
        registry.create_model(connection, store.clock, "m")
        for version in ("1", "2"):
            registry.create_version(connection, store.blobs, store.clock, name="m", source="s3://b/x")
            registry.set_alias(
                connection,
                store.clock,
                name="m",
                alias="champion",
                version=version,
                actor="ada",
                reason=f"try {version}",
            )
    store.close()

    def mainspring(*words: str) -> str:
        command = [sys.executable, "-m", "mainspring", "--project", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    lines = mainspring("models", "history", "m").splitlines()
    assert [word in lines[1] for word in ("@champion", "1", "2", "ada", "try 2")] == [True] * 5
    assert "try 1" in lines[2]
    assert "m" in mainspring("models")
    command = [sys.executable, "-m", "mainspring", "--project", str(tmp_path), "models", "history", "nobody"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3
