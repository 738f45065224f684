"""Model folders on disk: verified copies of registered versions, for processes that serve them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mainspring.blobs import LocalBlobs, check_digest, digest_of_file, get_tree, read_tree
from mainspring.core import Corrupt


def materialise(blobs: LocalBlobs, digest: str, folder: Path) -> Path:
    """Return ``folder/<digest>`` with a verified copy of a model's files, writing it if it is not there.

    It appears whole or not at all. A copy that has been changed is set aside and written again from the store.
    """
    target = folder / check_digest(digest)
    if target.exists() and not _is_intact(blobs, digest, target):
        target.rename(target.with_name(f"{target.name}.changed-{os.urandom(4).hex()}"))
    if not target.exists():
        _write(blobs, digest, target)
        if not _is_intact(blobs, digest, target):
            raise Corrupt(f"The model folder {target} cannot be written.", hint="Check the disk.")
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


def _is_intact(blobs: LocalBlobs, digest: str, target: Path) -> bool:
    wanted = {file.path: file.digest for file in read_tree(blobs, digest)}
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if not path.is_dir()}
    return wanted.keys() == found.keys() and all(digest_of_file(path) == wanted[name] for name, path in found.items())


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
