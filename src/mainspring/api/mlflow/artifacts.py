"""The artifact proxy: list, download, upload, delete; bytes are streamed both ways."""

from __future__ import annotations

import mimetypes
import re
from contextlib import ExitStack
from urllib.parse import quote

import anyio.to_thread
import msgspec
from starlette.routing import BaseRoute, Match

from mainspring import tracking
from mainspring.api.boundary import ROUTE, ClientGone, Receive, Scope, Send, send_json
from mainspring.api.errors import NotSupported, UnknownEndpoint
from mainspring.api.mlflow.entities import file_message
from mainspring.api.mlflow.mirror import mirror_file, remove_mirrored
from mainspring.api.mlflow.places import check_relative_path
from mainspring.api.mlflow.wire import convert, read_query, set_fields
from mainspring.blobs import TreeFile
from mainspring.core import NotFound
from mainspring.lineage import Store

PREFIXES = ("/api/2.0/mlflow-artifacts/", "/ajax-api/2.0/mlflow-artifacts/")
CHUNK = 1 << 20
_TEXT_NAMES = ("mlmodel", "mlproject")
_TEXT_SUFFIXES = (
    ".txt", ".log", ".err", ".cfg", ".conf", ".cnf", ".cf", ".ini", ".properties", ".prop", ".hocon", ".toml", ".yaml",
    ".yml", ".xml", ".json", ".js", ".py", ".py3", ".csv", ".tsv", ".md", ".rst", ".ipynb",
)  # fmt: skip
_TOKEN = re.compile(r"[\w!#$&+.^`|~-]+", re.ASCII)


class ListFolder(msgspec.Struct):
    """List a folder below the root."""

    path: str = ""


class ArtifactRoute(BaseRoute):
    """Everything below ``/api/2.0/mlflow-artifacts/``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match every HTTP request below the prefixes."""
        if scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind, slash, path = scope["path"].split("/mlflow-artifacts/", 1)[1].partition("/")
        method = scope["method"]
        if kind == "mpu":
            raise NotSupported("Multipart upload is not supported for the current artifact repository")
        if kind == "presigned":
            raise NotSupported("Multipart download is not supported for the current artifact repository")
        if kind != "artifacts" or method not in ("GET", "HEAD", "PUT", "DELETE"):
            raise UnknownEndpoint(f"No API found for '{method} {scope['path'][:200]}'.")
        scope[ROUTE] = "/api/2.0/mlflow-artifacts/artifacts" + ("/{path}" if slash else "")
        if not slash and method == "GET":
            request = convert(read_query(scope["query_string"], ListFolder), ListFolder)
            await send_json(send, 200, await anyio.to_thread.run_sync(self._list, request.path))
        elif method in ("GET", "HEAD"):
            await self._download(path, send, with_body=method == "GET")
        elif method == "PUT":
            await self._upload(path, receive)
            await send_json(send, 200, b"{}")
        else:
            await anyio.to_thread.run_sync(self._delete, path)
            await send_json(send, 200, b"{}")

    def _list(self, folder: str) -> bytes:
        below = check_relative_path(folder)
        with self._store.database.read() as connection:
            files = tracking.list_folder(connection, self._store.blobs, below)
        return msgspec.json.encode(set_fields(files=[file_message(file) for file in files]))

    async def _download(self, path: str, send: Send, *, with_body: bool) -> None:
        found, blob = await anyio.to_thread.run_sync(self._find, path)
        headers = [(b"content-length", str(found.size).encode()), *file_headers(path)]
        async with await anyio.open_file(blob, "rb") as file:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while with_body and (chunk := await file.read(CHUNK)):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _find(self, path: str) -> tuple[TreeFile, str]:
        """Return what is at a path and where its bytes are, verified."""
        try:
            with self._store.database.read() as connection:
                found = tracking.get_file(connection, self._store.blobs, path)
        except NotFound as error:
            raise NotFound(f"No such artifact: '{path[:200]}'") from error
        return found, str(self._store.blobs.path(found.digest))

    async def _upload(self, path: str, receive: Receive) -> None:
        """Stream the body into a blob; only when it is stored does the path lead to it."""
        tracking.check_writable(path)
        with ExitStack() as stack:
            writer = await anyio.to_thread.run_sync(stack.enter_context, self._store.blobs.writer())
            pending, more = bytearray(), True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                pending += message.get("body", b"")
                more = message.get("more_body", False)
                if len(pending) >= CHUNK or not more:
                    await anyio.to_thread.run_sync(writer.write, bytes(pending))
                    pending.clear()
            await anyio.to_thread.run_sync(stack.pop_all().close)
        await anyio.to_thread.run_sync(self._place, path, writer.digest, writer.size)

    def _place(self, path: str, digest: str, size: int) -> None:
        with self._store.database.write() as connection:
            tracking.put_file(connection, self._store.clock, path, digest=digest, size=size)
        mirror_file(self._store, path, digest)

    def _delete(self, path: str) -> None:
        with self._store.database.write() as connection:
            tracking.delete_files(connection, path)
        remove_mirrored(self._store, path)


def file_headers(path: str) -> list[tuple[bytes, bytes]]:
    """Return the headers a file is sent with: to be saved, never to be run by a browser."""
    name = path.rpartition("/")[2]
    if _TOKEN.fullmatch(name):
        shown = f"filename={name}"
    elif name.isascii() and name.isprintable() and not any(mark in name for mark in '"\\'):
        shown = f'filename="{name}"'
    else:
        shown = f"filename*=UTF-8''{quote(name, safe='')}"
    return [
        (b"content-type", content_type(path).encode()),
        (b"content-disposition", f"attachment; {shown}".encode()),
        (b"x-content-type-options", b"nosniff"),
    ]


def content_type(path: str) -> str:
    """Return the media type of a file by its name; what a browser could run is sent as text."""
    name = path.rpartition("/")[2]
    if name.lower() in _TEXT_NAMES or name.endswith(_TEXT_SUFFIXES):
        return "text/plain"
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return "text/plain" if any(kind in guessed for kind in ("html", "xml", "script")) else guessed
