"""Model folders on disk: verified copies of registered versions, for processes that serve them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mainspring.blobs import LocalBlobs, check_digest, digest_of_file, get_tree, read_tree
from mainspring.core import Corrupt
from mainspring.registry.versions import ModelVersion


def materialise(blobs: LocalBlobs, version: ModelVersion, folder: Path) -> Path:
    """Return ``folder/<digest>`` with a verified copy of the version's files, writing it if it is not there.

    It appears whole or not at all. Raises `Corrupt` if the copy that is there has been changed.
    """
    target = folder / check_digest(version.digest)
    if not target.exists():
        _write(blobs, version.digest, target)
    _verify(blobs, version.digest, target)
    return target


def _write(blobs: LocalBlobs, digest: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="incoming-", dir=target.parent))
    try:
        aside.chmod(0o755)
        get_tree(blobs, digest, aside)
        _sync(aside)
        try:
            aside.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _verify(blobs: LocalBlobs, digest: str, target: Path) -> None:
    wanted = {file.path: file.digest for file in read_tree(blobs, digest)}
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if not path.is_dir()}
    changed = wanted.keys() ^ found.keys()
    changed |= {name for name, path in found.items() if name in wanted and digest_of_file(path) != wanted[name]}
    if changed:
        raise Corrupt(
            f"The model folder {target} was changed: {', '.join(sorted(changed)[:5])}.",
            hint="Remove the folder: it is written again from the store.",
        )


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
