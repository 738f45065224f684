"""Fakes of the two APIs, on loopback: they keep every request as it came and answer from a script."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import yaml

PIPELINE = """\
pipelineInfo: {name: adder}
schemaVersion: 2.1.0
sdkVersion: kfp-2.16.1
root:
  dag: {tasks: {add: {componentRef: {name: comp-add}, taskInfo: {name: add}, cachingOptions: {enableCache: true}}}}
  inputDefinitions:
    parameters:
      number: {parameterType: NUMBER_INTEGER, defaultValue: 1.0, isOptional: true}
      rates: {parameterType: LIST, isOptional: true}
components:
  comp-add: {executorLabel: exec-add}
deploymentSpec:
  executors:
    exec-add: {container: {image: 'python:3.11', command: [echo, hi]}}
"""
PLATFORM = """\
---
platforms:
  kubernetes:
    deploymentSpec:
      executors:
        exec-add: {secretAsEnv: [{secretName: s, keyToEnv: [{secretKey: k, envVar: E}]}]}
    pipelineConfig: {resourceTtlOnCompletion: 60}
"""


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Fake:
    """A server that answers each (method, path pattern) by a function of the match and the request."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    routes: list[tuple[str, str, Callable]] = field(default_factory=list)

    def on(self, method: str, pattern: str, answer: Callable) -> None:
        self.routes.insert(0, (method, pattern, answer))

    def answer(self, request: Request) -> tuple[int, dict]:
        self.requests.append(request)
        for method, pattern, answer in self.routes:
            if method == request.method and (match := re.fullmatch(pattern, request.path)):
                found = answer(match, request)
                return found if isinstance(found, tuple) else (200, found)
        return 404, {"error": {"code": 404, "message": f"no {request.method} {request.path}"}}

    def sent(self, method: str, pattern: str) -> list[Request]:
        return [item for item in self.requests if item.method == method and re.fullmatch(pattern, item.path)]


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, document = made.answer(Request(self.command, parts.path, parts.query, headers, body))
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def remote_files() -> tuple[str, str]:
    """The two documents of a compiled file."""
    return PIPELINE, PLATFORM


@pytest.fixture
def spec_of() -> Callable[[str], dict]:
    """Reads the one document of a file as JSON would carry it."""
    return lambda text: json.loads(json.dumps(yaml.safe_load(text)))
