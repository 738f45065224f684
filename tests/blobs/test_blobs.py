from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.blobs import LocalBlobs, check_relative, digest_of, get_tree, put_tree
from mainspring.core import Corrupt, InvalidInput, NotFound


def tamper(blobs: LocalBlobs, digest: str, data: bytes) -> None:
    path = blobs.root / "sha256" / digest[7:9] / digest[9:]
    path.chmod(0o600)
    path.write_bytes(data)


def test_bytes_come_back_under_their_digest(blobs: LocalBlobs) -> None:
    digest = blobs.put(b"hello")
    assert digest == digest_of(b"hello")
    assert blobs.read(digest) == b"hello"
    assert blobs.path(digest).read_bytes() == b"hello"
    assert list(blobs) == [digest]


def test_the_same_bytes_are_stored_once_and_read_only(blobs: LocalBlobs) -> None:
    digest = blobs.put(b"x")
    assert blobs.put_stream([b"", b"x"]) == digest
    assert oct(blobs.path(digest).stat().st_mode)[-3:] == "444"
    assert not list((blobs.root / "incoming").iterdir())


@pytest.mark.parametrize("data", [b"hellO", b"", b"hello "])
def test_tampered_bytes_are_refused(blobs: LocalBlobs, data: bytes, tmp_path: Path) -> None:
    digest = blobs.put(b"hello")
    tamper(blobs, digest, data)
    for read in (blobs.read, blobs.path, lambda d: blobs.copy_to(d, tmp_path / "copy")):
        with pytest.raises(Corrupt, match=digest):
            read(digest)
    assert not (tmp_path / "copy").exists()


def test_storing_the_bytes_again_heals_a_tampered_blob(blobs: LocalBlobs) -> None:
    digest = blobs.put(b"hello")
    tamper(blobs, digest, b"hellO")
    assert blobs.put(b"hello") == digest
    assert blobs.read(digest) == b"hello"


def test_a_failed_write_leaves_nothing(blobs: LocalBlobs) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        blobs.put_stream(chunks())
    assert list(blobs) == []
    assert not list((blobs.root / "incoming").iterdir())


def test_unknown_and_malformed_digests_are_told_apart(blobs: LocalBlobs) -> None:
    with pytest.raises(NotFound):
        blobs.read(digest_of(b"never stored"))
    for bad in ("", "sha256:", "md5:" + "0" * 64, "sha256:../../etc/passwd", "sha256:" + "0" * 63 + "G"):
        with pytest.raises(InvalidInput):
            blobs.read(bad)


def test_kill_9_while_writing_leaves_only_whole_blobs(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom mainspring.blobs import LocalBlobs\n"
        f"blobs = LocalBlobs(Path({str(tmp_path)!r}))\n"
        "while True:\n    sys.stdout.write(blobs.put(os.urandom(200_000)) + '\\n'); sys.stdout.flush()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = [line.strip() for line in process.stdout if line.endswith("\n")]
    blobs = LocalBlobs(tmp_path)
    assert acknowledged
    for digest in acknowledged:
        assert digest_of(blobs.read(digest)) == digest
    for digest in blobs:
        blobs.read(digest)


def test_a_folder_survives_the_round_trip(blobs: LocalBlobs, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "in" / "sub" / "b.bin").write_bytes(b"\0\1")
    digest = put_tree(blobs, tmp_path / "in")
    out = get_tree(blobs, digest, tmp_path / "out")
    assert put_tree(blobs, out) == digest
    assert (out / "sub" / "b.bin").read_bytes() == b"\0\1"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "..\\x",
        "C:/x",
        "a/C:x",
        "file:/etc",
        "x/file:",
        "a\0b",
        "%2e%2e/x",
        "a%2f..%2fb",
        "%252e/x",
        "./a",
    ],
)
def test_paths_that_could_leave_a_folder_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="not allowed"):
        check_relative(path)


def test_a_colon_inside_of_a_name_is_allowed() -> None:
    assert str(check_relative("plots/2026-11-21 12:30:01.png")) == "plots/2026-11-21 12:30:01.png"


@given(st.text(min_size=1, max_size=40))
def test_a_path_that_is_allowed_stays_inside(path: str) -> None:
    try:
        checked = check_relative(path)
    except InvalidInput:
        return
    root = Path("/root-folder")
    assert Path(os.path.normpath(root / checked)).is_relative_to(root)
