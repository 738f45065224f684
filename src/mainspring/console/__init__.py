"""The web pages: every page is server-rendered HTML, and JSON at the same address plus ``.json``."""

from __future__ import annotations

from mainspring.console.pages import routes

__all__ = ["routes"]
