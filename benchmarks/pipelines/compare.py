"""Our engine beside kfp.local, one after the other on the same machine: medians and how many times quicker.

Usage: compare.py [REPEAT]. Ratios hold on a busy machine too, the milliseconds do not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def measure(script: str, *arguments: str) -> dict[str, dict[str, float]]:
    """Run one of the scripts beside this one and return what it measured."""
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout[done.stdout.index("{") :])


def main(repeat: str) -> None:
    """Print the table."""
    ours, theirs = measure("engine.py", "--repeat", repeat), measure("kfp_local.py", repeat)
    print(f"{'workload':<24}{'ours ms':>10}{'ours CPU ms':>13}{'kfp.local ms':>14}{'times':>8}")
    for name, found in ours.items():
        other = theirs.get(name, {}).get("wall_ms")
        times = f"{other:>14.1f}{other / found['wall_ms']:>8.1f}" if other else ""
        print(f"{name:<24}{found.get('wall_ms', float('nan')):>10.1f}{found['cpu_ms']:>13.1f}{times}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "5")
