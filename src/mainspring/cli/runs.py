"""``mainspring run``, ``resume``, ``retry``, ``cancel``, ``logs``, ``worker``…: pipeline runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainspring.cli.failures import RunFailed, failure_of
from mainspring.cli.project import Options, open_project, options_of
from mainspring.core import InvalidInput, MainspringError

if TYPE_CHECKING:
    from mainspring.lineage import Store
    from mainspring.pipelines import CompiledPipeline, Engine
    from mainspring.pipelines.launchers.ray import RayLauncher

_FILES = (".yaml", ".yml", ".json")
_PARALLEL = 8

RunId = Annotated[str, typer.Argument(help="Id of the run.")]
Home = Annotated[str | None, typer.Option("--home", help="Folder of the embedded store.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, VALUE as JSON; of an artifact its path.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on the standard output.")]
Parallel = Annotated[int, typer.Option("--parallel", min=0, help="How many tasks run here at the same time.")]


def run(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="A pipeline of the project, FILE.yaml, or FILE.py[:FUNCTION].")],
    parameter: Parameters = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every task, whatever ran before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and what is there already.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the run to `mainspring worker`.")] = False,
    as_json: AsJson = False,
    home: Home = None,
    parallel: Parallel = _PARALLEL,
    on: Annotated[str, typer.Option("--on", help="Where: local, ray, kubeflow or vertex.")] = "local",
    remote: Annotated[list[str] | None, typer.Option("--remote", help="NAME=VALUE of the engine's settings.")] = None,
    export: Annotated[
        tuple[str, Path] | None, typer.Option("--export", help="Write a file instead: airflow FILE.")
    ] = None,
) -> None:
    """Run a pipeline here and now; a version it registers is put on its way to the endpoint."""
    from mainspring.cli.run_view import print_document, print_forecast, print_refusal

    use_cache = not no_cache
    try:
        arguments = dict(parse_parameter(text) for text in parameter or ())
        store = _with_home(context, home)
        compiled = _from_file(store, pipeline)
        if export is not None or on not in ("local", "ray"):
            target = _Elsewhere(on=on, settings=remote or [], export=export, detach=detach, as_json=as_json)
            _run_elsewhere(context, store, target, pipeline, compiled, arguments, use_cache=use_cache)
            return
        needs_server = compiled is None and not dry_run
        with engine_of(store, needs_server=needs_server, parallel=parallel, ray=_ray(store, on, remote)) as engine:
            if dry_run:
                name, found, given = _resolve(store, pipeline, compiled, arguments)
                print_forecast(engine.forecast(found, pipeline=name, parameters=given, use_cache=use_cache), as_json)
                return
            run_id = _create(store, engine, pipeline, compiled, arguments, use_cache=use_cache, queued=detach)
            if detach:
                typer.echo(run_id)
                return
            typer.echo(f"run {run_id}", err=as_json)
            _execute(store, engine, run_id, as_json=as_json)
    except RunFailed:
        raise
    except MainspringError as error:
        if as_json:
            print_document(print_refusal(error))
        raise


def resume(context: typer.Context, run_id: RunId, as_json: AsJson = False, parallel: Parallel = _PARALLEL) -> None:
    """Go on with a run where it stopped; tasks that are finished do not run again."""
    store = open_project(context)
    with engine_of(store, needs_server=_needs_server(store, run_id), parallel=parallel) as engine:
        _execute(store, engine, run_id, as_json=as_json)


def retry(context: typer.Context, run_id: RunId, as_json: AsJson = False, parallel: Parallel = _PARALLEL) -> None:
    """Run again what failed in a run that has ended, and what was left out because of it."""
    store = open_project(context)
    with engine_of(store, needs_server=_needs_server(store, run_id), parallel=parallel) as engine:
        count = engine.retry(run_id)
        typer.echo(f"run {run_id}: {count} task{'s' if count != 1 else ''} to do", err=as_json)
        _execute(store, engine, run_id, as_json=as_json)


def cancel(
    context: typer.Context,
    run_id: RunId,
    force: Annotated[bool, typer.Option("--force", help="Stop exit tasks too.")] = False,
) -> None:
    """Stop a run, wherever it is executed: its tasks are killed with everything they started, exit tasks still run."""
    store = open_project(context)
    with engine_of(store, needs_server=False) as engine:
        found = engine.cancel(run_id, force=force)
    typer.echo(f"run {run_id} is canceled" if found.state == "CANCELED" else f"run {run_id} is being canceled")


def worker(context: typer.Context, parallel: Parallel = _PARALLEL) -> None:
    """Run tasks of runs that other processes or machines execute, and runs that wait for a worker, until Ctrl-C."""
    import threading

    from mainspring.cli.run_view import PlainView

    store, stopping = open_project(context), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with engine_of(store, needs_server=False, parallel=max(1, parallel)) as engine:
        typer.echo("working; Ctrl-C stops", err=True)
        engine.work(stopping, on_progress=PlainView(with_run=True).show)


def logs(
    context: typer.Context,
    run_id: RunId,
    task: Annotated[str | None, typer.Argument(help="Name or address of the task; all tasks by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the run has ended.")] = False,
) -> None:
    """Print what tasks printed."""
    from mainspring.cli.run_logs import print_logs

    print_logs(open_project(context), run_id, task, follow=follow)


def compile_(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="A pipeline of the project, or FILE.py[:FUNCTION].")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output if none.")
    ] = None,
) -> None:
    """Compile a pipeline to KFP's format, which Kubeflow and Vertex AI run too."""
    store = open_project(context)
    _, compiled, _ = _resolve(store, pipeline, _from_file(store, pipeline), {}, pins=False)
    if output is None:
        typer.echo(compiled.ir, nl=False)
    else:
        output.write_bytes(compiled.ir)
        typer.echo(f"{output}: {compiled.name}", err=True)


def parse_parameter(text: str) -> tuple[str, Any]:
    """Split ``NAME=VALUE``; VALUE is JSON, or a string if it is not JSON."""
    import msgspec

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"{text!r} is not a parameter.", hint="Write -p NAME=VALUE.")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


@contextmanager
def engine_of(
    store: Store, *, needs_server: bool = True, parallel: int = _PARALLEL, ray: str | None = None
) -> Iterator[Engine]:
    """Open an engine for this command; ``ray`` is the address of the Ray cluster its tasks run on.

    Its tasks log to the project's server: the one that runs, else, if it is needed, one started for the while.
    """
    from mainspring.cli.up import answers, read_state, running_server
    from mainspring.pipelines import Engine, LocalLauncher, task_environment

    home = store.settings.home
    home.joinpath("logs").mkdir(exist_ok=True)
    log = home / "logs" / "zygote.log"
    launcher = LocalLauncher(home=home, log=log) if ray is None else _ray_launcher(ray)

    def make(tracking: str) -> Engine:
        environment = task_environment(store.settings, tracking_url=tracking)
        return Engine(
            store.database,
            store.blobs,
            store.clock,
            launcher=launcher,
            work_folder=home / "work",
            actor=store.actor,
            task_environment={name: value for name, value in environment.items() if value},
            max_parallel=parallel,
            secrets_folder=store.settings.secrets_folder,
        )

    try:
        if needs_server:
            with running_server(store.settings) as url:
                yield make(url)
        else:
            state = read_state(home / "server.json")
            yield make(state.url if state is not None and answers(state.url) else "")
    finally:
        launcher.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Elsewhere:
    """Where a pipeline goes instead of running here."""

    on: str
    settings: list[str]
    export: tuple[str, Path] | None
    detach: bool
    as_json: bool


def _run_elsewhere(
    context: typer.Context,
    store: Store,
    target: _Elsewhere,
    pipeline: str,
    compiled: CompiledPipeline | None,
    arguments: dict[str, Any],
    *,
    use_cache: bool,
) -> None:
    """Submit a pipeline to another engine and mirror the run, or write it as a file for one."""
    from mainspring.cli.remote import export_airflow, read_settings, run_elsewhere
    from mainspring.cli.run_view import print_document, run_document

    _, found, given = _resolve(store, pipeline, compiled, arguments, pins=target.export is None)
    if target.export is not None:
        kind, path = target.export
        if kind != "airflow":
            raise InvalidInput(f"There is no export to {kind!r}.", hint="Write --export airflow FILE.")
        export_airflow(store, path, pipeline, found, given, folder=options_of(context).folder)
        return
    settings = read_settings(target.settings)
    finished = run_elsewhere(
        store, target.on, found, given, settings=settings, use_cache=use_cache, detach=target.detach
    )
    if target.as_json:
        print_document(run_document(store, finished))
    if not target.detach and finished.state != "COMPLETE":
        raise failure_of(finished)
    typer.echo(f"run {finished.id} is {finished.state.lower()}", err=target.as_json)


def _ray_launcher(address: str) -> RayLauncher:
    from mainspring.pipelines.launchers.ray import RayLauncher

    return RayLauncher(address=address)


def _ray(store: Store, on: str, settings: list[str] | None) -> str | None:
    """Return the address of the Ray cluster, empty for one of this machine; None when it is not asked for."""
    from mainspring.cli.remote import read_settings

    given = {**store.project.remotes.get("ray", {}), **read_settings(settings)}
    return str(given.get("address", "")) if on == "ray" else None


def _with_home(context: typer.Context, home: str | None) -> Store:
    options = options_of(context)
    flags = options.flags if home is None else {**options.flags, "home": str(Path(home).absolute())}
    return Options(folder=options.folder, flags=flags).open()


def _from_file(store: Store, name: str) -> CompiledPipeline | None:
    """Read or compile the pipeline of a file; None when the name is not one of a file."""
    from mainspring.pipelines import compile_pipeline, read_compiled

    file, _, function = name.partition(":")
    path = Path(file)
    if path.suffix in _FILES:
        if not path.is_file():
            raise InvalidInput(f"There is no file {path}.", hint="Name a compiled pipeline, or a .py file.")
        return read_compiled(path.read_bytes())
    if path.suffix == ".py":
        path = path.absolute()
        return compile_pipeline(path.parent, path.name, function, store.settings.home / "compiled")
    return None


def _resolve(
    store: Store, name: str, compiled: CompiledPipeline | None, arguments: dict[str, Any], *, pins: bool = True
) -> tuple[str, CompiledPipeline, dict[str, Any]]:
    """Return the name of a pipeline, the compiled pipeline, and its arguments."""
    if compiled is not None:
        return compiled.name, compiled, arguments
    from mainspring.automation.training import find_pipeline, pin_parameters
    from mainspring.pipelines import compile_pipeline

    config = find_pipeline(store, name)
    found = compile_pipeline(store.folder, config.file, config.function, store.settings.home / "compiled")
    given = {**config.parameters, **arguments}
    return name, found, pin_parameters(store, given) if pins else given


def _create(
    store: Store,
    engine: Engine,
    name: str,
    compiled: CompiledPipeline | None,
    arguments: dict[str, Any],
    *,
    use_cache: bool,
    queued: bool,
) -> str:
    title, found, given = _resolve(store, name, compiled, arguments)
    code: dict[str, Any] = {}
    if compiled is None:
        from mainspring.automation.training import describe_code

        code = describe_code(store)
    return engine.create_run(found, pipeline=title, parameters=given, code=code, use_cache=use_cache, queued=queued)


def _needs_server(store: Store, run_id: str) -> bool:
    from mainspring.pipelines import get_run

    with store.database.session() as session:
        return get_run(session, run_id).pipeline in store.project.pipelines


def _execute(store: Store, engine: Engine, run_id: str, *, as_json: bool) -> None:
    """Execute a run, show how it goes, and say how it ended; leave with a status that says so too."""
    from mainspring.cli.run_view import open_view, print_document, run_document

    with open_view(to_stderr=as_json) as view:
        finished = engine.execute(run_id, on_progress=view.show)
    for warning in finished.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print_document(run_document(store, finished))
    if finished.state != "COMPLETE":
        raise failure_of(finished)
    if finished.pipeline in store.project.pipelines:
        from mainspring.automation.training import adopt_result

        adopt_result(store, finished)
    typer.echo(f"run {run_id} is complete", err=as_json)
