"""The management routes: on their own listener, with a token, for models of the repository only."""

from __future__ import annotations

import json
import shutil
import stat
import urllib.error
import urllib.request

import msgspec
import pytest


class Manager:
    """Calls the management routes of a running endpoint."""

    def __init__(self, folder) -> None:
        document = json.loads((folder / "management.json").read_text())
        self.url, self.token = document["url"], document["token"]

    def call(self, path, method="POST", body=b"", **headers):
        names = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        request = urllib.request.Request(self.url + path, body if method == "POST" else None, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture
def managed(run_endpoint, deploy, tmp_path, model_folder, other_model_folder):
    deploy(tmp_path)
    repository = tmp_path / "repository"
    shutil.copytree(model_folder, repository / "first")
    shutil.copytree(other_model_folder, repository / "second")
    (repository / "linked").symlink_to(model_folder)
    process = run_endpoint("--management", "127.0.0.1:0", "--repository", str(repository))
    return process, Manager(tmp_path), repository


def _predict(process, name, rows):
    connection = process.connect()
    connection.request("POST", f"/v1/models/{name}:predict", msgspec.json.encode({"instances": rows}))
    response = connection.getresponse()
    return response.status, response.read(), response.headers.get("x-model-version")


def test_models_are_loaded_swapped_and_unloaded_while_others_answer(managed, rows, load, tmp_path, other_model_folder):
    process, manager, repository = managed
    clients = load(process, 4)
    assert _predict(process, "first", rows)[0] == 404
    assert manager.call("/v2/repository/models/first/load") == (200, {})
    status, _, version = _predict(process, "first", rows)
    assert status == 200
    shutil.rmtree(repository / "first")
    shutil.copytree(other_model_folder, repository / "first")
    assert manager.call("/v2/repository/models/first/load")[0] == 200
    assert _predict(process, "first", rows)[2] != version
    assert manager.call("/v2/repository/models/second/load", body=b"{}")[0] == 200
    models = {one["name"]: one for one in manager.call("/v1/status", "GET")[1]["models"]}
    assert models.keys() == {"flights", "first", "second"}
    assert models["first"]["revision"] == 2
    index = json.loads(_index(process))
    assert {one["name"] for one in index} == {"flights", "first", "second"}
    assert manager.call("/v2/repository/models/first/unload") == (200, {})
    assert _predict(process, "first", rows)[0] == 404
    assert _predict(process, "second", rows)[0] == 200
    clients.finish()
    assert clients.failures == []


def _index(process):
    connection = process.connect()
    connection.request("POST", "/v2/repository/index", b"")
    return connection.getresponse().read()


def test_only_models_of_the_repository_can_be_loaded_and_only_by_name(managed, tmp_path):
    _, manager, repository = managed
    shutil.copytree(repository / "first", tmp_path / "outside")
    for name, status in (
        ("..%2foutside", 400),
        ("..", 400),
        ("nothing", 404),
        ("linked", 404),
        ("http:%2f%2fevil.example%2fmodel", 400),
    ):
        assert manager.call(f"/v2/repository/models/{name}/load")[0] in (status, 404), name
    for body in (
        b'{"parameters": {"config": "{}"}}',
        b'{"parameters": {"file:1/model.py": "eA=="}}',
        b'{"url": "http://evil.example"}',
        b"[1]",
    ):
        assert manager.call("/v2/repository/models/first/load", body=body)[0] == 400
    assert manager.call("/v2/repository/models/flights/unload")[0] == 400
    assert manager.call("/v2/repository/models/nothing/unload")[0] == 404
    assert manager.call("/v2/nothing")[0] == 404
    assert manager.call("/v2/repository/models/first/load", "GET")[0] == 405


def test_a_damaged_model_is_refused_and_what_answered_goes_on(managed, rows):
    process, manager, repository = managed
    assert manager.call("/v2/repository/models/first/load")[0] == 200
    (repository / "first" / "data/flights/booster.txt").write_text("nonsense")
    status, answer = manager.call("/v2/repository/models/first/load")
    assert status in (403, 500)
    assert "error" in answer
    assert _predict(process, "first", rows)[0] == 200


def test_strangers_and_web_pages_are_refused(managed, tmp_path):
    process, manager, _ = managed
    load = "/v2/repository/models/first/load"
    assert manager.call(load, Authorization="Bearer wrong")[0] == 401
    assert manager.call(load, Origin="https://evil.example")[0] == 401
    assert manager.call(load, Sec_Fetch_Site="cross-site")[0] == 401
    assert manager.call(load, Host="evil.example:80")[0] == 401
    assert stat.S_IMODE((tmp_path / "management.json").stat().st_mode) == 0o600
    connection = process.connect()
    connection.request("POST", load, b"", {"Authorization": f"Bearer {manager.token}"})
    assert connection.getresponse().status == 403


def test_a_deployment_is_read_again_on_request(managed, deploy, tmp_path):
    process, manager, _ = managed
    deploy(tmp_path, 7, champion=(100, False, "2"))
    assert manager.call("/v1/endpoints/flights/reload") == (200, {})
    assert json.loads(process.get("/v2/health/ready")[1])["revision"] == 7
    assert manager.call("/v1/endpoints/other/reload")[0] == 404
