"""Runs: what was tried, with which params, to what end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from mainspring.core import AlreadyExists, Clock, InvalidInput, NotFound, new_hex_id
from mainspring.db import Session, marks, session_of
from mainspring.tracking import checks
from mainspring.tracking.inputs import DatasetInput, ModelLink, datasets_of, models_of
from mainspring.tracking.metrics import Metric, latest_metrics, log_metrics

if TYPE_CHECKING:
    import sqlalchemy as sa

STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
NAME_TAG = "mlflow.runName"
_CHUNK = 500
_ID = re.compile(r"[0-9a-f]{32}")
_COLUMNS = "id, experiment_id, name, status, lifecycle_stage, artifact_uri, start_time, end_time"
_INSERT_RUN = (
    'INSERT INTO run (id, experiment_id, name, "user", status, lifecycle_stage, artifact_uri, start_time) '
    "VALUES (?,?,?,?,'RUNNING','active',?,?) RETURNING number"
)
_WRITE_TAG = (
    "INSERT INTO run_tag (run, key, value) VALUES (?,?,?) ON CONFLICT (run, key) DO UPDATE SET value = excluded.value"
)
_WRITE_PARAM = "INSERT INTO param (run, key, value) VALUES (?,?,?) ON CONFLICT (run, key) DO NOTHING"


class Param(msgspec.Struct, frozen=True, gc=False):
    """A setting of a run; it never changes."""

    key: str
    value: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run with everything logged to it; ``metrics`` are the latest values. Times in ms since the epoch."""

    id: str
    experiment_id: str
    name: str
    user: str
    status: str
    lifecycle_stage: str
    artifact_uri: str
    start_time: int
    end_time: int | None
    params: list[Param]
    metrics: list[Metric]
    tags: dict[str, str]
    datasets: list[DatasetInput]
    models: list[ModelLink]


class RunKey(msgspec.Struct, frozen=True):
    """What writing to a run needs: its number and its experiment."""

    number: int
    experiment_id: str


def create_run(
    connection: sa.Connection | Session,
    clock: Clock,
    experiment_id: str,
    *,
    name: str = "",
    user: str = "",
    start_time: int | None = None,
    tags: Mapping[str, str] | None = None,
    id: str = "",
) -> Run:
    """Start a run; its name is also its tag ``mlflow.runName``.

    With an ``id`` (32 hexadecimal digits) that a run of this experiment has, return that run as it is; raise
    `AlreadyExists` if a run of another experiment has it.
    """
    session = session_of(connection)
    number, location = _find_active_experiment(session, experiment_id)
    there = _find_same(session, id, str(number)) if id else None
    if there is not None:
        return there
    id = id or new_hex_id()
    tags = dict(tags or {})
    name = name or tags.get(NAME_TAG, "") or f"run-{id[:8]}"
    tags[NAME_TAG] = checks.check_length("run_name", name, checks.MAX_KEY)
    made = Run(
        id=id, experiment_id=str(number), name=name, user=checks.check_length("User", user, 256), status="RUNNING",
        lifecycle_stage="active", artifact_uri=f"{location}/{id}/artifacts",
        start_time=clock.now_ms() if start_time is None else start_time, end_time=None,
        params=[], metrics=[], tags=dict(sorted(tags.items())), datasets=[], models=[],
    )  # fmt: skip
    row = session.row(_INSERT_RUN, (id, number, name, made.user, made.artifact_uri, made.start_time))
    _write_tags(session, row[0] if row else 0, made.tags)
    return made


def find_run(connection: sa.Connection | Session, id: str, *, stage: str | None = "active") -> RunKey:
    """Return the key of a run; raise `NotFound`, or `InvalidInput` if it is not in that stage."""
    statement = "SELECT number, experiment_id, lifecycle_stage FROM run WHERE id = ?"
    row = session_of(connection).row(statement, (id,)) if "\0" not in id else None
    if row is None:
        raise NotFound(f"Run with id={id[:100]} not found")
    if stage is not None and row[2] != stage:
        raise InvalidInput(f"The run {id} must be in the '{stage}' state. Current state is {row[2]}.")
    return RunKey(row[0], str(row[1]))


def get_run(connection: sa.Connection | Session, id: str) -> Run:
    """Return one run, deleted ones too; raise `NotFound`."""
    session = session_of(connection)
    return load_runs(session, [find_run(session, id, stage=None).number])[0]


def load_runs(connection: sa.Connection | Session, numbers: Sequence[int]) -> list[Run]:
    """Return runs by number, in this order, with what was logged to them."""
    session = session_of(connection)
    found: list[Run] = []
    for start in range(0, len(numbers), _CHUNK):
        found += _load_chunk(session, numbers[start : start + _CHUNK])
    return found


def update_run(
    connection: sa.Connection | Session,
    id: str,
    *,
    status: str | None = None,
    end_time: int | None = None,
    name: str = "",
) -> Run:
    """Change the status, the end time or the name of a run, and return it."""
    session = session_of(connection)
    key = change_run(session, id, status=status, end_time=end_time, name=name)
    return load_runs(session, [key.number])[0]


def change_run(
    session: Session, id: str, *, status: str | None = None, end_time: int | None = None, name: str = ""
) -> RunKey:
    """Change the status, the end time or the name of a run."""
    key = find_run(session, id)
    if status is not None and status not in STATUSES:
        raise InvalidInput(f"Invalid run status {status[:50]!r}.", hint=f"Use one of {', '.join(STATUSES)}.")
    if name:
        checks.check_length("run_name", name, checks.MAX_KEY)
        _write_tags(session, key.number, {NAME_TAG: name})
    session.run(
        "UPDATE run SET status = coalesce(?, status), end_time = coalesce(?, end_time), name = coalesce(?, name) "
        "WHERE number = ?",
        (status, end_time, name or None, key.number),
    )
    return key


def delete_run(connection: sa.Connection | Session, id: str) -> None:
    """Mark a run as deleted; one that is deleted already stays so."""
    session = session_of(connection)
    _set_stage(session, find_run(session, id, stage=None), "deleted")


def restore_run(connection: sa.Connection | Session, id: str) -> None:
    """Take back the deletion of a run, if it is deleted."""
    session = session_of(connection)
    _set_stage(session, find_run(session, id, stage=None), "active")


def log_batch(
    connection: sa.Connection | Session,
    id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Sequence[Param] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log metrics, params and tags to a run, all or nothing."""
    session = session_of(connection)
    key = find_run(session, id)
    changed = _write_params(session, key, params)
    if changed:
        raise InvalidInput(
            f"Changing param values is not allowed. Params were already logged='{_describe(changed)}' for run "
            f"ID='{id}'."
        )
    log_metrics(session, key.number, metrics)
    if tags:
        _set_tags(session, key, tags)


def log_param(connection: sa.Connection | Session, id: str, param: Param) -> None:
    """Record one param of a run; the same value again is fine, another one raises `InvalidInput`."""
    session = session_of(connection)
    for key, old, new in _write_params(session, find_run(session, id), [param]):
        raise InvalidInput(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' for "
            f"run ID='{id}'. Attempted logging new value '{new}'."
        )


def _write_params(session: Session, key: RunKey, params: Sequence[Param]) -> list[tuple[str, str, str]]:
    """Record params that are new; return the key, the value that is there and the one wanted where they differ."""
    if not params:
        return []
    wanted = _check_params(params)
    session.run_many(_WRITE_PARAM, [(key.number, name, value) for name, value in sorted(wanted.items())])
    statement = f"SELECT key, value FROM param WHERE run = ? AND key IN ({marks(list(wanted))})"  # noqa: S608 - marks
    kept = session.rows(statement, (key.number, *wanted))
    return [(name, value, wanted[name]) for name, value in kept if value != wanted[name]]


def _describe(changed: Iterable[tuple[str, str, str]]) -> str:
    """Say as MLflow does which params were to be changed."""
    return str([{"key": key, "old_value": old, "new_value": new} for key, old, new in changed])


def set_tags(connection: sa.Connection | Session, id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run; ``mlflow.runName`` renames it."""
    session = session_of(connection)
    _set_tags(session, find_run(session, id), tags)


def delete_tag(connection: sa.Connection | Session, id: str, key: str) -> None:
    """Remove a tag of a run; raise `NotFound` if it has none of that name."""
    session = session_of(connection)
    number = find_run(session, id).number
    if "\0" in key or session.run("DELETE FROM run_tag WHERE run = ? AND key = ?", (number, key)) == 0:
        raise NotFound(f"No tag with name: {key[:100]} in run with id {id}")


def _find_same(session: Session, id: str, experiment_id: str) -> Run | None:
    """Return the run that has this id already; raise if the id is none, or belongs to another experiment's run."""
    if not _ID.fullmatch(id):
        raise InvalidInput(f"Invalid run ID: '{id[:100]}'", hint="An id has 32 hexadecimal digits.")
    try:
        key = find_run(session, id)
    except NotFound:
        return None
    if key.experiment_id != experiment_id:
        raise AlreadyExists(f"Run with id={id} already exists in the experiment {key.experiment_id}.")
    return load_runs(session, [key.number])[0]


def _find_active_experiment(session: Session, id: str) -> tuple[int, str]:
    """Return the number and the artifact location of an experiment that takes runs."""
    is_number = id.isascii() and id.isdigit() and len(id) < 19
    statement = "SELECT id, artifact_location, lifecycle_stage FROM experiment WHERE id = ?"
    row = session.row(statement, (int(id),)) if is_number else None
    if row is None and not (id.isascii() and id.isdigit()):
        raise InvalidInput(f"Invalid experiment ID '{id[:100]}'. Experiment ID must be a valid integer.")
    if row is None:
        raise NotFound(f"No Experiment with id={id[:100]} exists")
    if row[2] != "active":
        raise InvalidInput(f"The experiment {id} must be in the 'active' state. Current state is {row[2]}.")
    return row[0], row[1]


def _check_params(params: Iterable[Param]) -> dict[str, str]:
    """Return params by key, each within the limits and none twice."""
    wanted: dict[str, str] = {}
    for param in params:
        checks.check_key("param", param.key)
        checks.check_length("Param value", param.value, checks.MAX_PARAM_VALUE)
        if param.key in wanted:
            raise InvalidInput(
                f"Duplicate parameter keys have been submitted: ['{param.key}'].",
                hint="Please ensure the request contains only one param value per param key.",
            )
        wanted[param.key] = param.value
    return wanted


def _set_tags(session: Session, key: RunKey, tags: Mapping[str, str]) -> None:
    _write_tags(session, key.number, tags)
    if tags.get(NAME_TAG):
        name = checks.check_length("run_name", tags[NAME_TAG], checks.MAX_KEY)
        session.run("UPDATE run SET name = ? WHERE number = ?", (name, key.number))


def _write_tags(session: Session, number: int, tags: Mapping[str, str]) -> None:
    tags = checks.check_tags(tags, limit=checks.MAX_RUN_TAG_VALUE)
    session.run_many(_WRITE_TAG, [(number, key, value) for key, value in sorted(tags.items())])


def _set_stage(session: Session, key: RunKey, stage: str) -> None:
    session.run("UPDATE run SET lifecycle_stage = ? WHERE number = ?", (stage, key.number))


def _load_chunk(session: Session, numbers: Sequence[int]) -> list[Run]:
    these = marks(numbers)
    infos = f'SELECT number, {_COLUMNS}, "user" FROM run WHERE number IN ({these})'  # noqa: S608 - marks only
    rows = {row[0]: row[1:] for row in session.rows(infos, numbers)}
    params = _keyed(session, "param", numbers)
    tags = _keyed(session, "run_tag", numbers)
    metrics = latest_metrics(session, numbers)
    datasets, models = datasets_of(session, numbers), models_of(session, numbers)
    found = []
    for number in numbers:
        id, experiment, name, status, stage, uri, start, end, user = rows[number]
        run = Run(
            id=id, experiment_id=str(experiment), name=name, user=user, status=status, lifecycle_stage=stage,
            artifact_uri=uri, start_time=start, end_time=end,
            params=[Param(key, value) for key, value in params[number]], metrics=metrics[number],
            tags=dict(tags[number]), datasets=datasets[number], models=models[number],
        )  # fmt: skip
        found.append(run)
    return found


def _keyed(session: Session, table: str, numbers: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    """Return the keys and values in a table by run, in the order of keys."""
    statement = f"SELECT run, key, value FROM {table} WHERE run IN ({marks(numbers)}) ORDER BY run, key"  # noqa: S608
    found: dict[int, list[tuple[str, str]]] = {number: [] for number in numbers}
    for run, key, value in session.rows(statement, numbers):
        found[run].append((key, value))
    return found
