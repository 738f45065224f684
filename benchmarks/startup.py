"""How light the start is: modules loaded and CPU time, medians of five runs (python benchmarks/startup.py)."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

CASES = {
    "python -c pass": ["-c", "pass"],
    "import mainspring": ["-c", "import mainspring"],
    "import mainspring.serving": ["-c", "import mainspring.serving"],
    "mainspring --help": ["-m", "mainspring", "--help"],
    "mainspring config show": ["-m", "mainspring", "config", "show"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Run python with these arguments and return the CPU time of the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line per case."""
    for name, arguments in CASES.items():
        times = [cpu_seconds(arguments) for _ in range(5)]
        print(f"{name:28} {statistics.median(times) * 1000:6.0f} ms CPU")
    for module in ("mainspring", "mainspring.serving", "mainspring.cli.app"):
        code = f"import sys; before = set(sys.modules); import {module}; print(len(set(sys.modules) - before))"
        count = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        print(f"import {module:21} {count:>6} modules")


if __name__ == "__main__":
    main()
