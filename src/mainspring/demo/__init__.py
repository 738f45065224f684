"""The demo: New York's flights of 2013, replayed through the real parts of mainspring."""

from __future__ import annotations
