"""The command line, one file per noun."""

from __future__ import annotations

import sys

from mainspring.core import MainspringError

__all__ = ["main"]


def main() -> None:
    """Run the command line; a `MainspringError` becomes one clear line and its exit status."""
    from mainspring.cli.app import app

    try:
        app()
    except MainspringError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        sys.stderr.write(f"error: {error.message}{hint}\n")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
