"""Keep the process small: glibc gives every thread a heap of its own, and keeps what loading a model has freed."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_ARENA_MAX = -8
_ARENAS = 1
_TRIM_BYTES = 16 << 20
"""Free memory to keep: left alone, glibc lets it grow with the largest request that was ever freed."""


def share_heaps() -> None:
    """Let all threads share one heap, and give back what a large request needed; call it before the first thread.

    Elsewhere than on glibc, do nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def give_back() -> None:
    """Return what is free to the system, and leave what was loaded out of the garbage collector's rounds."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
