"""What the loop did in the year, week by week, and what it gained: read back from the store, nothing remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mainspring.core import to_datetime
from mainspring.demo.client import EndpointClient
from mainspring.lineage import Event, Store, list_events
from mainspring.monitoring import MeasuredWindow, Performance, list_windows

WORDS = {
    "trigger.fired": "retrain",
    "gate.passed": "gate",
    "gate.refused": "gate",
    "rollout.started": "canary starts",
    "rollout.promoted": "promoted",
    "rollout.rolled_back": "rolled back",
}
TOLD = tuple(WORDS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of a whole replay; log losses over all labelled flights."""

    labelled: int
    loop_log_loss: float
    baseline_log_loss: float
    retrainings: int
    promoted: int
    refused: int
    rolled_back: int


def summarise(store: Store, monitor: str) -> Outcome:
    """Add up all windows of a monitor and count what the loop did."""
    with store.database.read() as connection:
        windows = list_windows(connection, monitor)
        events = list_events(connection, types=TOLD, limit=100_000)
    counts = {type: sum(event.type == type for event in events) for type in TOLD}
    loop = [window.report.served for window in windows]
    return Outcome(
        labelled=sum(found.n for found in loop if found),
        loop_log_loss=_mean(loop),
        baseline_log_loss=_mean([_baseline(window) for window in windows]),
        retrainings=counts["trigger.fired"] - 1,
        promoted=counts["rollout.promoted"],
        refused=counts["gate.refused"],
        rolled_back=counts["rollout.rolled_back"],
    )


def print_report(store: Store, monitor: str, console: Console) -> None:
    """Print one row per week: both log losses, what happened and why."""
    with store.database.read() as connection:
        windows = list_windows(connection, monitor)
        events = list_events(connection, types=TOLD, limit=100_000)
    table = Table(
        title="The year, week by week (log loss, lower is better)", title_justify="left", box=None, pad_edge=False
    )
    for name in ("week of", "flights", "loop", "never retrained", "gain"):
        table.add_column(name, justify="left" if name == "week of" else "right", no_wrap=True)
    table.add_column("what happened, and why", overflow="fold", ratio=1)
    for number, window in enumerate(windows):
        until = window.end_ms if number < len(windows) - 1 else math.inf  # the last row tells what came after, too
        told = [tell(event) for event in events if window.start_ms <= event.time < until]
        table.add_row(*_figures(window), "\n".join(told))
    console.print(table)


def print_summary(outcome: Outcome, client: EndpointClient, console: Console, *, seconds: float) -> None:
    """Print what the year came to."""
    gain = outcome.baseline_log_loss - outcome.loop_log_loss
    console.print(
        f"\nlog loss over {outcome.labelled:,} labelled flights: loop [bold]{outcome.loop_log_loss:.4f}[/bold], "
        f"never retrained [bold]{outcome.baseline_log_loss:.4f}[/bold], gain {gain:.4f}",
        highlight=False,
    )
    console.print(
        f"{outcome.retrainings} retrainings: {outcome.promoted} promoted, {outcome.refused} refused by the gate, "
        f"{outcome.rolled_back} rolled back; {client.predictions:,} predictions in {client.requests:,} requests, "
        f"{client.failed} failed; {seconds:.0f} s",
        highlight=False,
    )


def tell(event: Event) -> str:
    """Say an event in a few words, with its reason."""
    reason = str(event.data.get("reason", ""))
    if event.type == "rollout.started":
        return f"canary starts: version {event.data.get('candidate')} against version {event.data.get('champion')}"
    if event.data.get("kind") == "on_demand":
        return f"train: {reason}"
    return f"{WORDS[event.type]}: {reason}" if reason else WORDS[event.type]


def _figures(window: MeasuredWindow) -> tuple[str, ...]:
    loop, baseline = window.report.served, _baseline(window)
    return (
        to_datetime(window.start_ms).strftime("%d %b"),
        f"{window.rows:,}",
        f"{loop.log_loss.value:.4f}" if loop else "-",
        f"{baseline.log_loss.value:.4f}" if baseline else "-",
        f"{baseline.log_loss.value - loop.log_loss.value:+.4f}" if loop and baseline else "-",
    )


def _baseline(window: MeasuredWindow) -> Performance | None:
    return next((found.performance for found in window.report.variants if found.variant == "baseline"), None)


def _mean(parts: list[Performance | None]) -> float:
    known = [(part.n, part.log_loss.value) for part in parts if part is not None]
    total = sum(n for n, _ in known)
    return sum(n * value for n, value in known) / total if total else float("nan")
