"""Where artifacts are: behind the server (proxied), in a folder the operator named, or somewhere only clients reach.

The server itself touches proxied artifacts and the operator's own folder (``--artifact-root``), nothing else. Every
other location is a text it keeps for clients, as MLflow does.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from mainspring.core import InvalidInput

ARTIFACT_SCHEME = "mlflow-artifacts:/"
PROXY_ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
MAX_LOCATION = 2048
_OBJECT_STORES = ("s3", "gs", "wasb", "wasbs", "abfs", "abfss", "adl", "r2", "b2", "oss")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def root_location(root: str) -> str:
    """Return the location below which new experiments keep their artifacts: ``root``, or the proxy if it is empty."""
    if not root:
        return ARTIFACT_SCHEME
    return check_location(root, root="/").rstrip("/") + "/"


def check_location(location: str, *, root: str) -> str:
    """Return a client's artifact location as it is kept; refuse what could be read in two ways.

    Local folders are fine only where the operator has chosen a local ``root``; a relative one is made absolute.
    """
    if len(location) > MAX_LOCATION:
        raise InvalidInput(
            f"Invalid artifact path length. The length of the artifact path cannot be greater than {MAX_LOCATION} "
            "characters."
        )
    split = _split(location)
    if split.fragment:
        raise InvalidInput("'artifact_location' URL can't include fragments or params.")
    if split.scheme == "runs":
        raise InvalidInput(f"Artifact location cannot be a runs:/ URI. Given: '{location[:200]}'")
    decoded = _unquote(location)
    if ".." in decoded.replace("\\", "/").split("/") or _CONTROL.search(decoded) or "#" in decoded or "?" in decoded:
        raise _refuse(location, "No '..', '#', '?', backslashes or control characters, encoded or not.")
    if split.scheme in ("", "file"):
        return _check_local(location, split.netloc, root)
    if proxied_path(location) is not None or (split.scheme in _OBJECT_STORES and split.netloc):
        return location.rstrip("/")
    raise _refuse(location, "Leave it out: artifacts go through the server (mlflow-artifacts:/…).")


def proxied_path(uri: str) -> str | None:
    """Return the path below the proxied root that a URI names, or None if it is not proxied."""
    split = _split(uri)
    if split.scheme == "mlflow-artifacts":
        return split.path.strip("/") if not split.query and not split.fragment else None
    if split.scheme in ("http", "https") and split.path.startswith(PROXY_ROUTE):
        return split.path.removeprefix(PROXY_ROUTE).strip("/") if not split.query and not split.fragment else None
    return None


def is_local(location: str) -> bool:
    """Say whether a location is a folder on a disk."""
    return _split(location).scheme in ("", "file")


def local_folder(location: str, root: str, path: str = "") -> Path:
    """Return ``path`` below a local location as a real path; raise `InvalidInput` if it is outside ``root``."""
    split = _split(location)
    if split.netloc not in ("", "localhost") or not root or not is_local(root):
        raise _refuse(location, "The server does not read folders of its own disk.")
    inside = Path(unquote(_split(root).path)).resolve()
    found = (Path(unquote(split.path)) / path).resolve()
    if found != inside and inside not in found.parents:
        raise InvalidInput("Invalid path", hint="It is outside of the server's --artifact-root.")
    return found


def _check_local(location: str, netloc: str, root: str) -> str:
    if not is_local(root):
        raise _refuse(location, "Leave it out: artifacts go through the server (mlflow-artifacts:/…).")
    if netloc not in ("", "localhost"):
        raise InvalidInput(f"{location[:200]} is not a valid remote uri.", hint="For remote tracking use a scheme.")
    if location.startswith("file:") or location.startswith("/"):
        return location.rstrip("/") or "/"
    return str(Path.cwd() / location)


def _split(location: str) -> SplitResult:
    try:
        return urlsplit(location)
    except ValueError as error:
        raise _refuse(location, "It is not a URI.") from error


def _unquote(text: str) -> str:
    """Decode percent escapes until nothing changes."""
    for _ in range(10):
        decoded = unquote(text)
        if decoded == text:
            return text
        text = decoded
    return "\0"


def _refuse(location: str, hint: str) -> InvalidInput:
    return InvalidInput(f"The artifact location {location[:200]!r} is not supported.", hint=hint)
