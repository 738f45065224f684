"""What the files of a version say about it: its signature, and whether loading it runs code."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import msgspec
import yaml

from mainspring.blobs import LocalBlobs, TreeFile, read_tree
from mainspring.core import InvalidInput

MAX_MLMODEL_BYTES = 4 << 20
MAX_SNIFFED_BYTES = 64 << 10
_CODE_SUFFIXES = (".pkl", ".pickle", ".cloudpickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt")


def read_signature(blobs: LocalBlobs, digest: str) -> dict[str, Any]:
    """Return the signature in the MLmodel file of a tree: ``inputs``, ``outputs`` and ``params``, parsed."""
    mlmodel = next((file for file in read_tree(blobs, digest) if file.path == "MLmodel"), None)
    if mlmodel is None or mlmodel.size > MAX_MLMODEL_BYTES:
        return {}
    try:
        document = yaml.safe_load(blobs.read(mlmodel.digest))
        signature = document.get("signature") if isinstance(document, dict) else None
        if not isinstance(signature, dict):
            return {}
        texts = {str(key): value for key, value in signature.items() if isinstance(value, str) and value}
        return {key: msgspec.json.decode(value) for key, value in texts.items()}
    except (yaml.YAMLError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("The MLmodel file of the model cannot be read.", hint="Log the model again.") from error


def warn_of_code(blobs: LocalBlobs, digest: str) -> str:
    """Return a warning if loading a file of the tree can run code (pickle and its kin); empty if none can."""
    found = [file.path for file in read_tree(blobs, digest) if _runs_code(blobs, file)]
    if not found:
        return ""
    shown = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
    return f"Loading this version runs code: {shown}. Prefer skops, ONNX, safetensors or a native format."


def _runs_code(blobs: LocalBlobs, file: TreeFile) -> bool:
    """Say whether a file is a pickle: by its name, or a small one by its first bytes (protocol 2 and later)."""
    if PurePosixPath(file.path).suffix.lower() in _CODE_SUFFIXES:
        return True
    if not 4 <= file.size <= MAX_SNIFFED_BYTES or not blobs.exists(file.digest):
        return False
    head = blobs.read(file.digest)[:2]
    return head[0] == 0x80 and 2 <= head[1] <= 5
