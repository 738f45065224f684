"""Bytes: content addressed, verified on read, written atomically."""

from __future__ import annotations

from mainspring.blobs.digest import check_digest, digest_of, digest_of_file
from mainspring.blobs.local import BlobWriter, LocalBlobs
from mainspring.blobs.trees import TreeFile, check_relative, get_tree, put_manifest, put_tree, read_tree

__all__ = [
    "BlobWriter",
    "LocalBlobs",
    "TreeFile",
    "check_digest",
    "check_relative",
    "digest_of",
    "digest_of_file",
    "get_tree",
    "put_manifest",
    "put_tree",
    "read_tree",
]
