"""Proxied artifacts as plain files too, in the folder of ``--artifacts-destination``, for those who read them there.

The server's own store stays the truth: it answers from there, verified. The plain files are copies.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mainspring.core import Refused
from mainspring.lineage import Store


def mirror_file(store: Store, path: str, digest: str) -> None:
    """Copy a stored artifact to where the operator wants plain files; nothing if there is no such place."""
    target = _target(store, path)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        store.blobs.copy_to(digest, target)
        target.chmod(0o644)


def remove_mirrored(store: Store, path: str) -> None:
    """Remove the copies of a file, or of what is below a folder."""
    target = _target(store, path)
    if target is None:
        return
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def _target(store: Store, path: str) -> Path | None:
    """Return the place of a copy; a link that leads out of the folder is refused."""
    destination = store.settings.values.artifacts_destination
    if not destination:
        return None
    root = Path(os.path.realpath(destination.removeprefix("file://")))
    target = root / path
    if root not in Path(os.path.realpath(target)).parents:
        raise Refused("A link in the artifacts destination leads out of it.", hint="Remove the link.")
    return target
