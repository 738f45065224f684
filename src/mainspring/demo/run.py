"""The demo from start to end: make a project, start mainspring, let the year pass, print what happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mainspring.automation import enqueue
from mainspring.automation.scheduler import read_state
from mainspring.core import Refused, SimulatedClock, Unavailable, to_datetime
from mainspring.core.project import load_project
from mainspring.core.settings import resolve_settings
from mainspring.demo.client import EndpointClient
from mainspring.demo.flights import FIRST_WEEK_MS, WEEK_MS, load_flights
from mainspring.demo.project import free_port, make_project
from mainspring.demo.replay import FIRST_WEEKS, World, close_week, replay_week, wait_until_settled
from mainspring.demo.report import Outcome, print_report, print_summary, summarise
from mainspring.lineage import Store, open_store
from mainspring.serving import read_records

ENDPOINT = "flights-delay"
WEEKS = 48
START_SECONDS = 60.0
LOOP_AT_MOST = 0.48
BASELINE_AT_LEAST = 0.50


def run_demo(folder: Path, *, weeks: int, console: Console | None = None) -> None:
    """Replay ``weeks`` weeks into the project at ``folder``; raise if the loop did not do its work."""
    console = console or Console()
    started = monotonic()
    make_project(folder)
    console.print("[bold]mainspring demo[/bold]  a year of New York's flights through the whole loop")
    with console.status("preparing the flights (first time only)…") as status:
        flights = load_flights(_cache_folder(), progress=status.update)
    clock = SimulatedClock(folder / ".mainspring" / "clock", start_ms=FIRST_WEEK_MS + FIRST_WEEKS * WEEK_MS)
    world = World(flights=flights, folder=folder, clock=clock, random=random.Random(0))  # noqa: S311 - not a secret
    for week in range(FIRST_WEEKS):
        world.deliver_week(week)
    project = load_project(folder)
    environment = {**os.environ, "MAINSPRING_PORT": str(free_port(0)), "MAINSPRING_ACTOR": "demo"}
    settings = resolve_settings(folder, file=project.settings, environment=environment)
    store = open_store(settings, project)
    with running_mainspring(store, environment) as alive:
        client = EndpointClient(endpoint_url(store, alive), ENDPOINT)
        settle = Settler(store, clock, client, alive)
        with console.status("training the first version on January…"):
            with store.database.write() as connection:
                enqueue(connection, clock, kind="on_demand", pipeline="train", reason="There is no version yet.")
            clock.set_ms(clock.now_ms() + 1000)
            settle()
        live_through(world, client, settle, weeks=weeks, console=console)
    print_report(store, ENDPOINT, console)
    outcome = summarise(store, ENDPOINT)
    print_summary(outcome, client, console, seconds=monotonic() - started)
    say_where_to_look(store, console, folder)
    check(client, outcome, whole_year=weeks == WEEKS)
    store.close()


class Settler:
    """Waits until the loop has dealt with the present moment, and its endpoint serves what was decided."""

    def __init__(self, store: Store, clock: SimulatedClock, client: EndpointClient, alive: Callable[[], None]) -> None:
        self._store, self._clock, self._client, self._alive = store, clock, client, alive
        self._revision = 0

    def __call__(self) -> None:
        """Wait; raise `Unavailable` if a process died or nothing moves."""
        wait_until_settled(self._store.settings.home, self._clock, alive=self._alive)
        path = self._store.settings.endpoint_folder(ENDPOINT) / "deployment.json"
        revision = msgspec.json.decode(path.read_bytes())["revision"] if path.is_file() else 0
        if revision == 0:
            raise Unavailable(
                "No version passed the gate, so there is nothing to serve.", hint="See: mainspring pipelines list"
            )
        if revision > self._revision:
            self._client.wait_for_revision(revision)
            self._revision = revision


def live_through(world: World, client: EndpointClient, settle: Settler, *, weeks: int, console: Console) -> None:
    """Let the weeks pass, with a progress bar that says what date it is."""
    last = FIRST_WEEKS + weeks
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    begin, end = FIRST_WEEK_MS + FIRST_WEEKS * WEEK_MS, FIRST_WEEK_MS + last * WEEK_MS
    total = world.count(begin, end)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("flights", total=total)
        for week in range(FIRST_WEEKS, last):
            day = to_datetime(FIRST_WEEK_MS + week * WEEK_MS).strftime("%d %b")
            progress.update(task, description=f"week of {day}")
            replay_week(world, client, week, settle=settle, progress=lambda rows: progress.advance(task, rows))
        close_week(world, client, last - 1, settle=settle)


@contextmanager
def running_mainspring(store: Store, environment: dict[str, str]) -> Iterator[Callable[[], None]]:
    """Run ``mainspring up`` on the project; yield a function that raises if it has died."""
    log_path = store.settings.home / "logs" / "up.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mainspring", "--project", str(store.folder), "up"]
    with log_path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def alive() -> None:
        if process.poll() is not None:
            tail = log_path.read_text(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(
                f"mainspring up ended with status {process.returncode}: {' '.join(tail)}", hint=f"See {log_path}"
            )

    try:
        yield alive
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def endpoint_url(store: Store, alive: Callable[[], None]) -> str:
    """Wait until scheduler, server and endpoint are there; return the endpoint's address."""
    deadline = monotonic() + START_SECONDS
    path = store.settings.endpoint_folder(ENDPOINT) / "endpoint.json"
    while monotonic() < deadline:
        ready = path.is_file() and (store.settings.home / "server.json").is_file()
        if ready and read_state(store.settings.home / "scheduler.json") is not None:
            return str(msgspec.json.decode(path.read_bytes())["url"])
        alive()
        sleep(0.05)
    raise Unavailable(f"mainspring did not start in {START_SECONDS:.0f} s.", hint=f"See {store.settings.home / 'logs'}")


def say_where_to_look(store: Store, console: Console, folder: Path) -> None:
    """Print the commands that show more, with a prediction to try."""
    now = store.clock.now_ms()
    records = [
        record
        for record in read_records(store.settings.endpoint_folder(ENDPOINT) / "predictions", now - WEEK_MS, now)
        if not record.shadow and record.status == 200
    ]
    chosen = random.Random(store.settings.values.seed).choice(records)  # noqa: S311 - an example, not a secret
    console.print("\nLook at it:")
    command = sys.argv[0] if Path(sys.argv[0]).name == "mainspring" else "mainspring"
    console.print(f"  {command} --project {folder} up", highlight=False, soft_wrap=True)
    console.print(f"  {command} --project {folder} why {chosen.id}:0", highlight=False, soft_wrap=True)


def check(client: EndpointClient, outcome: Outcome, *, whole_year: bool) -> None:
    """Fail the demo if a prediction failed, nothing was measured, or the loop did not earn its keep in a year."""
    if client.failed or not outcome.labelled:
        raise Unavailable(
            f"{client.failed} of {client.requests} requests failed, {outcome.labelled} rows were labelled."
        )
    loop, baseline = outcome.loop_log_loss, outcome.baseline_log_loss
    if whole_year and not (loop <= LOOP_AT_MOST and baseline >= BASELINE_AT_LEAST and outcome.retrainings >= 3):
        raise Refused(
            f"The loop reached a log loss of {loop:.4f} against {baseline:.4f} with {outcome.retrainings} retrainings; "
            f"expected at most {LOOP_AT_MOST} against at least {BASELINE_AT_LEAST} with at least 3."
        )


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mainspring"
