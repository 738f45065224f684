"""Metaflow flows with its local runner, which is a command: what is measured includes its start.

Usage: metaflow_flows.py REPEAT. The smallest flow has two steps, ``start`` and ``end``. The re-run is ``resume`` from
the last step of a chain, which clones the nine before it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import timing

HEAD = "from metaflow import FlowSpec, step\n\n\nclass {name}(FlowSpec):\n"
STEP = "    @step\n    def {name}(self):\n        self.x = getattr(self, 'x', 0) + 1\n{after}\n"


def write_flow(folder: Path, name: str, steps: list[str]) -> Path:
    """Write a flow whose steps follow one another."""
    body = ""
    for index, step in enumerate(steps):
        after = f"        self.next(self.{steps[index + 1]})\n" if index + 1 < len(steps) else ""
        body += STEP.format(name=step, after=after)
    path = folder / f"{name.lower()}.py"
    path.write_text(HEAD.format(name=name) + body + f"\nif __name__ == '__main__':\n    {name}()\n")
    return path


FAN = """    @step
    def start(self):
        self.items = list(range(50))
        self.next(self.add, foreach='items')

    @step
    def add(self):
        self.x = self.input + 1
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(item.x for item in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == '__main__':
    Fan()
"""


def main(repeat: int) -> None:
    """Measure and report."""
    folder = Path(tempfile.mkdtemp(prefix="bench-metaflow-"))
    environment = {**os.environ, "USER": "bench", "METAFLOW_USER": "bench", "METAFLOW_HOME": str(folder / "home")}

    def run(path: Path, *arguments: str) -> None:
        command = [sys.executable, str(path), "--quiet", *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    one = write_flow(folder, "One", ["start", "end"])
    chain = write_flow(folder, "Chain", ["start", *(f"step{index}" for index in range(8)), "end"])
    fan = folder / "fan.py"
    fan.write_text(HEAD.format(name="Fan") + FAN)
    results = {
        "one": timing.median_ms(lambda _: run(one, "run"), repeat, warms_up=False),
        "chain": timing.median_ms(lambda _: run(chain, "run"), 1, warms_up=False),
        "fan": timing.median_ms(lambda _: run(fan, "run", "--max-workers", "8"), 1, warms_up=False),
        "chain_cached": timing.median_ms(lambda _: run(chain, "resume", "end"), 1, warms_up=False),
    }
    timing.report(results)


if __name__ == "__main__":
    main(int(sys.argv[1]))
