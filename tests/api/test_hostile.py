"""Requests that mean harm: refused with a 4xx in MLflow's shape, nothing written, no path disclosed."""

from __future__ import annotations

import base64
import http.client
import json
import socket

import pytest

ROOT = "/api/2.0/mlflow-artifacts/artifacts"
PATHS = [
    "../../etc/passwd", "1/../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "%252e%252e%252fetc", "..%2f..%2fetc", "..%5c..%5cetc",  # noqa: E501
    "/etc/passwd", "%2fetc%2fpasswd", "C:/x", "C%3A%5Cx", "a%00b", "....//x", "a//b", "./x", "a/./b", "a%0ab", "%ff%fe",
    "file:///etc/passwd", "a\\b", "a/%2E%2E/b", "trees/../1/x", "x" * 1001, "",
]  # fmt: skip


def raw_call(server, method: str, path: str, body: bytes | None = None, **headers: str):
    """Send a request without any cleaning of its path."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.putheader("Content-Length", str(len(body or b"")))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
def test_hostile_artifact_path(server, method: str, path: str) -> None:
    before = sorted(server.folder.parent.rglob("passwd"))
    status, content = raw_call(server, method, f"{ROOT}/{path}", b"evil")
    assert 400 <= status < 500, content
    assert str(server.folder).encode() not in content
    assert json.loads(content)["error_code"] in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
    assert sorted(server.folder.parent.rglob("passwd")) == before


@pytest.mark.parametrize("path", [path for path in PATHS if path not in ("", "/etc/passwd")])
def test_hostile_listing_path(server, path: str) -> None:
    if "\\" in path or path == "x" * 1001:
        path = path.replace("\\", "%5c")
    status, content = raw_call(server, "GET", f"{ROOT}?path={path}")
    assert 400 <= status < 500, content


def test_registered_files_cannot_be_overwritten_or_deleted(server) -> None:
    for method in ("PUT", "DELETE"):
        status, content = raw_call(server, method, f"{ROOT}/trees/{'a' * 64}/MLmodel", b"evil")
        assert (status, json.loads(content)["error_code"]) == (403, "PERMISSION_DENIED")


def test_downloads_cannot_run_in_a_browser(server) -> None:
    assert server.call("PUT", f"{ROOT}/xss/page.html", raw=b"<script>alert(1)</script>")[0] == 200
    _, headers, _ = server.call("GET", f"{ROOT}/xss/page.html")
    assert headers["content-type"].startswith("text/plain")
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"


def test_tampered_artifact_is_refused(server, server_store) -> None:
    data = b"the true bytes"
    assert server.call("PUT", f"{ROOT}/tamper/x.bin", raw=data)[0] == 200
    assert server.call("GET", f"{ROOT}/tamper/x.bin")[2] == data
    path = server_store.blobs.path(server_store.blobs.put(data))
    path.chmod(0o644)
    path.write_bytes(b"the fake bytes")
    status, _, answer = server.call("GET", f"{ROOT}/tamper/x.bin")
    assert (status, answer["error_code"]) == (422, "DATA_LOSS")


def test_upload_that_breaks_off_leaves_nothing(server, server_store) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = f"PUT {ROOT}/broken/x.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n"
        client.sendall(head.encode() + b"x" * 2_000_000)
    assert server.call("GET", f"{ROOT}/broken/x.bin")[0] == 404
    assert server.call("GET", "/health")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_foreign_host_is_refused_on_loopback(server, host: str) -> None:
    assert raw_call(server, "GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", Host=host)[0] in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "LOCALHOST"])
def test_local_host_names_are_allowed(server, host: str) -> None:
    assert raw_call(server, "GET", "/health", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}]
)
def test_cross_site_writes_are_refused(server, headers: dict[str, str]) -> None:
    status, _ = raw_call(server, "POST", "/api/2.0/mlflow/experiments/create", b'{"name": "csrf"}', **headers)
    assert status == 403
    assert server.mlflow("GET", "experiments/get-by-name?experiment_name=csrf")[0] == 404


def test_own_pages_may_write(server) -> None:
    status, _ = raw_call(server, "POST", "/api/2.0/mlflow/experiments/search", b"{}", Origin=server.url)
    assert status == 200


def test_token_guards_everything_but_health(own_server) -> None:
    own_server.flags["token"] = "s3cret"
    own_server.start()
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    basic = base64.b64encode(b"anyone:s3cret").decode()
    wrong = base64.b64encode(b"anyone:guess").decode()
    assert own_server.call("GET", "/health")[0] == 200
    for given in (
        {},
        {"Authorization": "Bearer guess"},
        {"Authorization": f"Basic {wrong}"},
        {"Authorization": "Basic ?"},
    ):
        for guarded in (path, "/metrics", "/api/v1/events", f"{ROOT}/x", "/nothing"):
            status, _, answer = own_server.call("GET", guarded, **given)
            assert (status, answer["error_code"]) == (401, "UNAUTHENTICATED")
    for given in ({"Authorization": "Bearer s3cret"}, {"Authorization": f"Basic {basic}"}):
        assert own_server.call("GET", path, **given)[0] == 200
