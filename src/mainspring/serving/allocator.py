"""Keep the process small: glibc gives every thread a heap of its own, and keeps what loading a model has freed."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8
_ARENAS = 2


def share_heaps() -> None:
    """Let all threads share two heaps; before the first thread is started. Elsewhere than on glibc, do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return what is free to the system, and leave what was loaded out of the garbage collector's rounds."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
