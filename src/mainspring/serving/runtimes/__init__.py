"""One module per kind of model; each is imported when a model needs it, and imports its library only then."""

from __future__ import annotations
