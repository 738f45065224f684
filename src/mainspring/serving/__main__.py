"""``python -m mainspring.serving``: run one endpoint process, or several workers of it."""

from __future__ import annotations

import sys

from mainspring.core import MainspringError
from mainspring.serving.flags import read_flags
from mainspring.serving.server import configure_logging, report_failure, serve


def main(arguments: list[str] | None = None) -> int:
    """Read the flags, serve, and return the exit status."""
    configure_logging()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options, workers = read_flags(given)
        if workers > 1:
            # Late: a process of its own, that needs no more than this.
            from mainspring.serving.workers import supervise

            return supervise(options, workers, given)
        return serve(options)
    except MainspringError as error:
        return report_failure(error)


if __name__ == "__main__":
    sys.exit(main())
