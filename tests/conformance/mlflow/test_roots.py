"""``--artifact-root`` and ``--artifacts-destination`` mean what they mean for ``mlflow server``."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def local(kind: str, launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A server whose experiments keep artifacts in a local folder the clients write to."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "root").mkdir()
    with launch(kind, folder, "--artifact-root", (folder / "root").as_uri()) as server:
        yield server, folder / "root"


@pytest.fixture
def client(local: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", local[0].url)
    mlflow.set_tracking_uri(local[0].url)
    yield mlflow.MlflowClient(local[0].url, registry_uri=local[0].url)
    mlflow.set_tracking_uri(None)


def test_artifacts_are_where_the_root_says(client: Any, local: tuple[Any, Path], name: str, tmp_path: Path) -> None:
    server, root = local
    id = client.create_experiment(name)
    assert client.get_experiment(id).artifact_location == f"{root.as_uri()}/{id}"
    assert client.get_experiment("0").artifact_location == f"{root.as_uri()}/0"
    run = client.create_run(id).info
    assert run.artifact_uri == f"{root.as_uri()}/{id}/{run.run_id}/artifacts"
    (tmp_path / "a.txt").write_text("hello")
    client.log_artifact(run.run_id, str(tmp_path / "a.txt"), "dir")
    assert (root / id / run.run_id / "artifacts" / "dir" / "a.txt").read_text() == "hello"
    assert [one.path for one in client.list_artifacts(run.run_id, "dir")] == ["dir/a.txt"]
    status, answer = server.call("GET", f"artifacts/list?run_id={run.run_id}&path=dir")
    assert (status, answer["files"]) == (200, [{"path": "dir/a.txt", "is_dir": False, "file_size": 5}])
    assert server.call("GET", f"/get-artifact?run_id={run.run_id}&path=dir/a.txt") == (200, b"hello")
    for path in ("../../../../etc/passwd", "/etc/passwd", "..%2f..%2fx"):
        assert server.call("GET", f"/get-artifact?run_id={run.run_id}&path={path}")[0] == 400
        assert server.call("GET", f"artifacts/list?run_id={run.run_id}&path={path}")[0] == 400


def test_versions_of_local_files(client: Any, local: tuple[Any, Path], name: str, tmp_path: Path) -> None:
    server, root = local
    id = client.create_experiment(name)
    run = client.create_run(id).info
    (tmp_path / "MLmodel").write_text("flavors: {}")
    client.log_artifact(run.run_id, str(tmp_path / "MLmodel"), "model")
    client.create_registered_model(name)
    path = run.artifact_uri.removeprefix("file://")
    for source in (path, run.artifact_uri, f"{run.artifact_uri}/model", f"{run.artifact_uri}/.", f"{path}/model/.."):
        status, _ = server.call("POST", "model-versions/create", {"name": name, "source": source, "run_id": run.run_id})
        assert status == 200, source
    for source, given in ((path, None), ("/tmp", run.run_id), ("file:///tmp", None), (str(root.parent), run.run_id)):
        body = {"name": name, "source": source, **({"run_id": given} if given else {})}
        status, answer = server.call("POST", "model-versions/create", body)
        assert status == 400, source
        assert "To use a local path as a model version" in answer["message"]


def test_a_small_upload_lands_below_the_root(client: Any, local: tuple[Any, Path], name: str) -> None:
    server, root = local
    run = client.create_run(client.create_experiment(name)).info
    path = f"run_uuid={run.run_id}&path=up/test.txt"
    assert server.call("POST", f"/ajax-api/2.0/mlflow/upload-artifact?{path}", raw=b"hello")[0] == 200
    assert (root / run.experiment_id / run.run_id / "artifacts" / "up" / "test.txt").read_bytes() == b"hello"
    assert server.call("GET", f"/get-artifact?{path}") == (200, b"hello")
    folder = f"run_uuid={run.run_id}&path=up"
    assert server.call("POST", f"/ajax-api/2.0/mlflow/upload-artifact?{folder}", raw=b"x")[0] >= 400


def test_registered_local_files_are_frozen_by_us(
    client: Any, local: tuple[Any, Path], name: str, tmp_path: Path
) -> None:
    server, root = local
    if not server.is_ours:
        pytest.skip("MLflow reads the files where they are")
    id = client.create_experiment(name)
    run = client.create_run(id).info
    (tmp_path / "MLmodel").write_text("flavors: {}")
    client.log_artifact(run.run_id, str(tmp_path / "MLmodel"), "model")
    folder = root / id / run.run_id / "artifacts" / "model"
    (folder / "link").symlink_to("/etc/passwd")
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
    (folder / "MLmodel").write_text("changed")
    uri = client.get_model_version_download_uri(name, "1")
    tree = "/api/2.0/mlflow-artifacts/artifacts/" + uri.removeprefix("mlflow-artifacts:/")
    assert server.call("GET", f"{tree}/MLmodel") == (200, b"flavors: {}")
    assert server.call("GET", f"{tree}/link")[0] == 404
    assert server.call("GET", f"/get-artifact?run_id={run.run_id}&path=model/link")[0] == 400


def test_a_location_outside_of_the_root_is_the_clients_own(
    client: Any, local: tuple[Any, Path], name: str, tmp_path: Path
) -> None:
    server, _ = local
    if not server.is_ours:
        pytest.skip("MLflow serves files from there")
    (tmp_path / "secret").write_text("x")
    id = client.create_experiment(name, artifact_location=tmp_path.as_uri())
    run = client.create_run(id).info.run_id
    for path in ("secret", "../../secret"):
        status, answer = server.call("GET", f"/get-artifact?run_id={run}&path={path}")
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    body = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=planted"
    assert server.call("POST", body, raw=b"evil")[0] == 400
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_the_destination_holds_plain_files(kind: str, launch: Any, tmp_path: Path) -> None:
    destination = tmp_path / "mlartifacts"
    with launch(kind, tmp_path, "--artifacts-destination", str(destination)) as server:
        root = "/api/2.0/mlflow-artifacts/artifacts"
        for path, data in (("a.txt", b"0"), ("dir/b.txt", b"1")):
            assert server.call("PUT", f"{root}/{path}", raw=data)[0] == 200
            assert (destination / path).read_bytes() == data
        assert server.call("GET", root)[1] == {
            "files": [{"path": "a.txt", "is_dir": False, "file_size": 1}, {"path": "dir", "is_dir": True}]
        }
        assert server.call("DELETE", f"{root}/dir/b.txt")[0] == 200
        assert not (destination / "dir" / "b.txt").exists()


def test_a_root_that_is_the_proxys_own_address(launch: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    root = f"http://127.0.0.1:{port}/api/2.0/mlflow-artifacts/artifacts"
    with launch("mainspring", tmp_path, "--artifact-root", root, port=port) as server:
        run = server.call("POST", "runs/create", {"experiment_id": "0"})[1]["run"]["info"]
        assert run["artifact_uri"] == f"{root}/0/{run['run_id']}/artifacts"
        path = f"0/{run['run_id']}/artifacts/a.txt"
        assert server.call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", raw=b"x")[0] == 200
        listed = server.call("GET", f"artifacts/list?run_id={run['run_id']}")[1]
        assert listed["files"] == [{"path": "a.txt", "is_dir": False, "file_size": 1}]


def test_the_operator_says_which_sources_versions_may_have(kind: str, launch: Any, tmp_path: Path, name: str) -> None:
    rule = {"MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "^mlflow-artifacts:/.*$"}
    with launch(kind, tmp_path, **rule) as server:
        server.call("POST", "registered-models/create", {"name": name})
        status, answer = server.call("POST", "model-versions/create", {"name": name, "source": "s3://path/to/model"})
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert "Invalid model version source: 's3://path/to/model'." in answer["message"]
        run = server.call("POST", "runs/create", {"experiment_id": "0"})[1]["run"]["info"]
        source = {"source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
        assert server.call("POST", "model-versions/create", {"name": name, **source})[0] == 200


def test_reset_empties_the_store_and_needs_the_variable(launch: Any, tmp_path: Path) -> None:
    with launch("mainspring", tmp_path) as server:
        server.call("POST", "experiments/create", {"name": "x"})
        run = server.call("POST", "runs/create", {"experiment_id": "1"})[1]["run"]["info"]["run_id"]
        server.call("POST", "runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1})
        server.call("POST", "registered-models/create", {"name": "m"})
        assert server.call("POST", "/_test/reset", {})[0] == 200
        found = server.call("POST", "experiments/search", {"max_results": 9})[1]["experiments"]
        assert [one["name"] for one in found] == ["Default"]
        assert server.call("GET", f"runs/get?run_id={run}")[0] == 404
        assert server.call("GET", "registered-models/search") == (200, {})
        assert server.call("POST", "experiments/create", {"name": "x"})[1] == {"experiment_id": "1"}
        new = server.call("POST", "runs/create", {"experiment_id": "1"})[1]["run"]["info"]["run_id"]
        metric = {"run_id": new, "key": "m", "value": 2, "timestamp": 1}
        assert server.call("POST", "runs/log-metric", metric)[0] == 200
        assert server.call("GET", f"runs/get?run_id={new}")[1]["run"]["data"]["metrics"][0]["value"] == 2
    with launch("mainspring", tmp_path, MAINSPRING_TEST_RESET="") as server:
        assert server.call("POST", "/_test/reset", {})[0] == 404
        assert server.call("GET", "experiments/get-by-name?experiment_name=x")[0] == 200


def test_a_token_file_opens_the_server_to_those_who_have_a_token(launch: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# who may do what\nada viewer ada-s3cret\nbob editor bob-s3cret\n")
    with launch("mainspring", tmp_path, "--token-file", str(tmp_path / "tokens")) as server:
        status, answer = server.call("GET", "experiments/get?experiment_id=0")
        assert (status, answer["error_code"]) == (401, "UNAUTHENTICATED")
        import mlflow

        for token, is_allowed in (("ada-s3cret", False), ("bob-s3cret", True)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_TOKEN", token)
                client = mlflow.MlflowClient(server.url, registry_uri=server.url)
                assert client.get_experiment("0").name == "Default"
                if is_allowed:
                    assert client.create_experiment(token)
                    continue
                with pytest.raises(mlflow.MlflowException, match="may not write"):
                    client.create_experiment(token)
