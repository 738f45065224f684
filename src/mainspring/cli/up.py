"""``mainspring up``: server, scheduler and endpoints as one supervised process tree."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO, TYPE_CHECKING

import msgspec
import typer

from mainspring.cli.project import open_project, options_of
from mainspring.cli.spools import absorbing_spools
from mainspring.core import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from mainspring.cli.supervisor import Child, Supervisor
    from mainspring.core.project import Project
    from mainspring.core.settings import ResolvedSettings

START_SECONDS = 30.0


def up(context: typer.Context) -> None:
    """Start server, scheduler and endpoints, show where they are, and keep them running until Ctrl-C."""
    from mainspring.api.guard import check_binding

    settings, project = options_of(context).load()
    open_project(context).close()  # migrate once, before the children race to do it
    check_binding(settings.values, settings.values.host)
    lock = hold_project(settings)
    check_ports(settings, project)
    supervisor = start(settings, project, report=lambda line: typer.echo(line, err=True))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.request_stop())
    try:
        url = wait_for_url(settings.home / "server.json", supervisor, "server")
        typer.echo(f"mainspring is up: {url}  (project {project.project}, Ctrl-C stops everything)")
        for name in project.endpoints:
            url = wait_for_url(settings.endpoint_folder(name) / "endpoint.json", supervisor, f"endpoint-{name}")
            typer.echo(f"  endpoint {name}: {url}/invocations")
        supervisor.watch()
        typer.echo("stopping…", err=True)
    finally:
        supervisor.stop()
        lock.close()


def hold_project(settings: ResolvedSettings) -> IO[str]:
    """Take the project for this process tree until the file is closed; raise `Conflict` if another one has it."""
    lock = (settings.home / "up.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise Conflict(
            f"mainspring is up already for the project in {settings.project_folder}.", hint="Stop it first: Ctrl-C."
        ) from error
    return lock


def scheduler(context: typer.Context) -> None:
    """Run the controllers: arrivals, monitors, retraining, rollouts."""
    from mainspring.automation.scheduler import run_scheduler

    store = open_project(context)
    with absorbing_spools(store):
        run_scheduler(store)


def start(settings: ResolvedSettings, project: Project, *, report: Callable[[str], None]) -> Supervisor:
    """Start the children of ``mainspring up`` under a supervisor."""
    from mainspring.cli.supervisor import Supervisor

    (settings.home / "server.json").unlink(missing_ok=True)
    return Supervisor(
        children_of(settings, project),
        log_folder=settings.home / "logs",
        environment=environment_of(settings),
        report=report,
    )


def children_of(settings: ResolvedSettings, project: Project | None) -> list[Child]:
    """Return the processes of a project: server, scheduler, and one for each endpoint."""
    from mainspring.cli.supervisor import Child

    ours = [sys.executable, "-m", "mainspring", "--project", str(settings.project_folder)]
    endpoints = project.endpoints.items() if project is not None else ()
    return [
        Child("server", [*ours, "server"]),
        Child("scheduler", [*ours, "scheduler"]),
        *(Child(f"endpoint-{name}", endpoint_command(settings, name, found.port)) for name, found in endpoints),
    ]


def environment_of(settings: ResolvedSettings) -> dict[str, str]:
    """Return the variables that give the children the settings of this process."""
    values = msgspec.structs.asdict(settings.values)
    variables = {f"MAINSPRING_{name.upper()}": str(value) for name, value in values.items() if value != ""}
    return {**os.environ, **variables}


@contextmanager
def running_server(settings: ResolvedSettings) -> Iterator[str]:
    """Use the project's server if it runs, or run one for as long as the block lasts; yield its address."""
    from mainspring.cli.supervisor import Supervisor

    state = read_state(settings.home / "server.json")
    if state is not None and Path(f"/proc/{state.pid}").exists() and answers(state.url):
        yield state.url
        return
    children = [child for child in children_of(settings, None) if child.name == "server"]
    supervisor = Supervisor(
        children, log_folder=settings.home / "logs", environment={**environment_of(settings), "MAINSPRING_PORT": "0"},
        report=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    try:
        yield wait_for_url(settings.home / "server.json", supervisor, "server")
    finally:
        supervisor.stop()


def check_ports(settings: ResolvedSettings, project: Project) -> None:
    """Refuse ports somebody else listens on, before anything is started."""
    wanted = [("server", settings.values.port)]
    wanted += [(f"endpoint {name}", endpoint.port) for name, endpoint in project.endpoints.items()]
    taken: dict[int, str] = {}
    for name, port in wanted:
        if port and port in taken:
            raise InvalidInput(f"The {name} and the {taken[port]} both want port {port}.", hint="Change one of them.")
        taken[port] = name
        check_port(name, settings.values.host, port)


def check_port(name: str, host: str, port: int) -> None:
    """Raise `Unavailable` if somebody else listens on the port; 0 is always free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"The {name} cannot listen on {host}:{port}: {error.strerror}.",
                hint="Stop what listens there, or choose another port: --port, or port: in mainspring.yaml.",
            ) from error


def answers(url: str) -> bool:
    """Say whether a server answers at this address."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"{url}/health", timeout=2) as response:  # noqa: S310 - our own address, from our own file
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def endpoint_command(settings: ResolvedSettings, name: str, port: int) -> list[str]:
    """Return the command line of an endpoint's process."""
    command = [sys.executable, "-m", "mainspring.serving", "--endpoint", name]
    command += ["--folder", str(settings.endpoint_folder(name)), "--host", settings.values.host]
    return [*command, "--port", str(port), "--clock", settings.clock_spec]


def wait_for_url(path: Path, supervisor: Supervisor, child: str) -> str:
    """Wait until a child has said in its state file where it listens; return its address."""
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline:
        state = read_state(path)
        if state is not None and state.pid == supervisor.pids()[child]:
            return state.url
        supervisor.watch_once()
        sleep(0.05)
    raise Unavailable(
        f"{child} did not start in {START_SECONDS:.0f} s: {supervisor.log_tail(child)}",
        hint=f"See {supervisor.log_path(child)}",
    )


class ListenerState(msgspec.Struct, frozen=True):
    """What a process that listens says of itself."""

    url: str
    pid: int


def read_state(path: Path) -> ListenerState | None:
    """Read a process's state file; None while there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ListenerState)
    except (OSError, msgspec.DecodeError):
        return None
