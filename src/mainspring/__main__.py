"""``python -m mainspring``: the command line."""

from __future__ import annotations

from mainspring.cli import main

main()
