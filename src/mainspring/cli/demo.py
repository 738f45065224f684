"""``mainspring demo``: a year of real flights through the whole loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put the demo project.")] = Path("mainspring-demo"),
    weeks: Annotated[int, typer.Option(help="How many weeks to replay after the first four.", min=1, max=48)] = 48,
) -> None:
    """Replay the flights of 2013 through the real parts, and say what the loop did and gained."""
    from mainspring.demo.run import run_demo

    run_demo(folder, weeks=weeks)
