"""The Python client: the same nouns over HTTP, with logging that never makes a training loop wait."""

from __future__ import annotations
