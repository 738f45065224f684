from __future__ import annotations

from pathlib import Path

import pytest

from mainspring import lineage, registry
from mainspring.core import AlreadyExists, InvalidInput, NotFound


def test_version_freezes_the_files_reads_the_signature_and_numbers_on(shelf) -> None:
    run_id, model_id = shelf.log_model()
    first = shelf.register(f"models:/{model_id}")
    shelf.put(f"{shelf.experiment}/models/{model_id}/artifacts/data/booster.txt", b"other")
    second = shelf.register(f"models:/{model_id}", run_id=run_id)
    assert (first.version, second.version) == ("1", "2")
    assert first.digest != second.digest
    assert first.run_id == run_id
    assert first.signature == {"inputs": [{"type": "double", "name": "distance", "required": True}]}


def test_runs_source_leads_to_run_artifacts_or_to_the_logged_model_of_that_name(shelf) -> None:
    run_id, model_id = shelf.log_model()
    by_model, by_run = shelf.register(f"models:/{model_id}"), shelf.register(f"runs:/{run_id}/model")
    assert by_run.digest == by_model.digest
    assert by_run.logged_model_id == model_id
    shelf.put(f"{shelf.experiment}/{run_id}/artifacts/old/MLmodel", b"flavors: {}")
    root = f"mlflow-artifacts:/{shelf.experiment}/{run_id}/artifacts/old"
    assert shelf.register(root, run_id=run_id).digest == shelf.register(f"runs:/{run_id}/old").digest
    assert shelf.register("models:/flights-delay/1").digest == by_model.digest


def test_version_is_output_of_the_execution_in_the_runs_tags_and_an_event(shelf) -> None:
    with shelf.database.write() as connection:
        execution = lineage.start_execution(connection, shelf.clock, type="task", name="register", actor="ada")
    _, model_id = shelf.log_model(tags={"mainspring.pipeline_run_id": "p1", "mainspring.execution_id": execution})
    version = shelf.register(f"models:/{model_id}")
    with shelf.database.read() as connection:
        (edge,) = lineage.edges_of(connection, execution)
        event = lineage.get_event(connection, version.event)
    assert version.pipeline_run_id == "p1"
    assert (edge.kind, edge.artifact.type, edge.artifact.name) == ("OUTPUT", "Model", "flights-delay")
    assert (edge.artifact.digest, edge.artifact.uri) == (version.digest, "models:/flights-delay/1")
    assert event.type == "model.version.registered"
    assert event.subject == "flights-delay/1"


def test_unknown_execution_in_the_tags_does_not_stop_a_registration(shelf) -> None:
    _, model_id = shelf.log_model(tags={"mainspring.execution_id": "gone"})
    assert shelf.register(f"models:/{model_id}").execution_id == "gone"


BEYOND = [
    "/etc", "file:///etc", "http://h/x", "ftp://h/x", "s3://b/../x", "s3://b/%252e%252e/x",
    "mlflow-artifacts:/../x", "mlflow-artifacts:/9/other/artifacts",
    "runs:/RUN/../..", "runs:/RUN/%2e%2e", "models:/m-nope/../x", "models://h/m-x", "",
    "mlflow-artifacts://h/x", "models:/m-x#/../..",
]  # fmt: skip


def test_source_that_reaches_beyond_the_run_is_refused(shelf) -> None:
    run_id, _ = shelf.log_model()
    for source in BEYOND:
        with pytest.raises((InvalidInput, NotFound)):
            pytest.fail(shelf.register(source.replace("RUN", run_id), run_id=run_id).source)
    with shelf.database.read() as connection:
        assert registry.list_versions(connection, "flights-delay") == []


def test_source_of_another_run_or_model_than_named_is_refused(shelf) -> None:
    run_id, model_id = shelf.log_model()
    other, _ = shelf.log_model()
    with pytest.raises(InvalidInput):
        shelf.register(f"runs:/{run_id}/model", run_id=other)
    with pytest.raises(InvalidInput):
        shelf.register(f"models:/{model_id}", logged_model_id="m-other")


def test_a_run_of_another_server_is_believed_and_a_whole_run_is_a_source_too(shelf) -> None:
    elsewhere = shelf.register("runs:/another/model", run_id="another")
    assert (elsewhere.source, elsewhere.run_id, elsewhere.signature) == ("runs:/another/model", "another", {})
    with shelf.database.read() as connection:
        uri = registry.get_download_uri(connection, shelf.blobs, "flights-delay", elsewhere.version)
    assert uri == "runs:/another/model"
    run_id, _ = shelf.log_model()
    shelf.put(f"{shelf.experiment}/{run_id}/artifacts/MLmodel", b"flavors: {}")
    digests = {shelf.register(f"runs:/{run_id}{end}", run_id=run_id).digest for end in ("", "/")}
    assert len(digests) == 1
    assert elsewhere.digest not in digests


def test_a_failed_registration_does_not_use_up_a_number(shelf) -> None:
    _, model_id = shelf.log_model()
    with pytest.raises(NotFound):
        shelf.register("models:/m-nope")
    with pytest.raises(NotFound):
        shelf.register("runs:/nope/model")
    assert shelf.register(f"models:/{model_id}").version == "1"


def test_number_of_a_deleted_version_is_not_used_again(shelf) -> None:
    _, model_id = shelf.log_model()
    shelf.register(f"models:/{model_id}")
    with shelf.database.write() as connection:
        registry.remove_version(
            connection, shelf.clock, name="flights-delay", version="1", actor="ada", reason="unused"
        )
        with pytest.raises(NotFound):
            registry.get_version(connection, "flights-delay", "1")
    assert shelf.register(f"models:/{model_id}").version == "2"


def test_versions_are_found_by_name_run_and_tag(shelf) -> None:
    run_id, model_id = shelf.log_model()
    for _ in range(2):
        shelf.register(f"models:/{model_id}")
    with shelf.database.write() as connection:
        registry.set_version_tag(connection, shelf.clock, "flights-delay", "2", "verdict", "better")

        def search(filter: str, *order: str) -> list[str]:
            page = registry.search_versions(connection, filter=filter, order_by=order)
            return [found.version for found in page.versions]

        assert search("name = 'flights-delay'") == ["2", "1"]
        assert search(f"run_id = '{run_id}'", "version_number ASC") == ["1", "2"]
        assert search("tags.verdict = 'better'") == ["2"]
        assert search("tags.verdict != 'better'") == []
        assert search("tags.verdict != 'worse'") == ["2"]
        assert search("tags.`mlflow.prompt.is_prompt` != 'true'") == ["2", "1"]
        assert search("version_number > 1") == ["2"]
        assert [found.version for found in registry.list_versions(connection, "flights-delay")] == ["2", "1"]
        assert registry.latest_versions(connection, ["flights-delay"])["flights-delay"].version == "2"


def test_model_folder_is_written_once_and_verified(shelf, tmp_path: Path) -> None:
    _, model_id = shelf.log_model(b"trees")
    version = shelf.register(f"models:/{model_id}")
    folder = registry.materialise(shelf.blobs, version.digest, tmp_path / "models")
    assert folder == tmp_path / "models" / version.digest.removeprefix("sha256:")
    assert (folder / "data" / "booster.txt").read_bytes() == b"trees"
    assert registry.materialise(shelf.blobs, version.digest, tmp_path / "models") == folder
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]
    (folder / "data" / "booster.txt").write_bytes(b"trojan")
    assert registry.materialise(shelf.blobs, version.digest, tmp_path / "models") == folder
    assert (folder / "data" / "booster.txt").read_bytes() == b"trees"
    assert any(".changed-" in path.name for path in (tmp_path / "models").iterdir())


def test_models_are_created_renamed_tagged_searched_and_deleted(shelf) -> None:
    _, model_id = shelf.log_model()
    shelf.register(f"models:/{model_id}")
    with shelf.database.write() as connection:
        registry.create_model(connection, shelf.clock, "other", tags={"mlflow.prompt.is_prompt": "true"})
        with pytest.raises(AlreadyExists):
            registry.create_model(connection, shelf.clock, "other")
        page = registry.search_models(connection, filter="tags.`mlflow.prompt.is_prompt` != 'true'")
        assert [model.name for model in page.models] == ["flights-delay"]
        assert registry.rename_model(connection, shelf.clock, "flights-delay", "delay").name == "delay"
        assert registry.get_version(connection, "delay", "1").version == "1"
        registry.remove_model(connection, shelf.clock, name="delay", actor="ada", reason="unused")
        assert [model.name for model in registry.list_models(connection)] == ["other"]
        assert registry.list_versions(connection, "delay") == []


def test_nothing_is_ordered_by_the_same_twice(shelf) -> None:
    with shelf.database.read() as connection:
        for orders in (["name", "name DESC"], ["timestamp", "last_updated_timestamp DESC"]):
            with pytest.raises(InvalidInput, match="`order_by` contains duplicate fields"):
                registry.search_models(connection, order_by=orders)
        with pytest.raises(InvalidInput, match="`order_by` contains duplicate fields"):
            registry.search_versions(connection, order_by=["name", "name"])
        registry.search_versions(connection, order_by=["name", "version_number DESC"])


def test_unusable_model_name_is_refused(shelf) -> None:
    for name in ("", " ", "a/b", "a:b", "a\0", "x" * 257):
        with pytest.raises(InvalidInput), shelf.database.write() as connection:
            registry.create_model(connection, shelf.clock, name)
