"""The loop as code: what ``mainspring.yaml`` says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from mainspring.core.errors import InvalidInput, NotFound

FILE_NAME = "mainspring.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DURATION = re.compile(r"(\d+)\s*(m|h|d|w)")
_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class DatasetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named data set: Parquet files that arrive in a folder; each becomes a part of the next snapshot."""

    files: str
    """Glob below the project folder, read in name order."""
    time_column: str = ""
    """Column with the event time in milliseconds (UTC)."""


class PipelineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A KFP pipeline: the file and function that define it, and its default arguments."""

    file: str
    function: str
    parameters: dict[str, Any] = {}


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address clients call: which registered model answers there."""

    model: str
    """Name of the registered model; its ``champion`` alias is what is served."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    baseline: str = ""
    """A model version (``1``) that shadows every request and never changes: what if we had not retrained?"""


class MonitorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Watches windows of an endpoint's prediction log."""

    endpoint: str
    window: str = "7d"
    start: datetime | None = None
    """When the first window starts, with a time zone; by default on the day of the first record."""
    label_delay: str = "0d"
    """How long after its end a window waits for labels before it is judged."""
    min_label_coverage: Annotated[float, Meta(ge=0, le=1)] = 0.5


class RetrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy from signals to a pipeline run."""

    monitor: str
    pipeline: str
    every_windows: Annotated[int, Meta(ge=0)] = 0
    """Schedule floor: retrain when the last training is this many windows old; 0 means never for age alone."""
    excess_loss: Annotated[float, Meta(ge=0)] = 0.0
    """Retrain when the summed log loss above the champion's hold-out loss reaches this (nats); 0 means off."""
    cooldown_windows: Annotated[int, Meta(ge=0)] = 1
    """At least this many windows between two trainings."""


class ScheduleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Starts a pipeline at the times of a cron expression, or every so often."""

    pipeline: str
    cron: str = ""
    """Five fields, or six with seconds first: ``0 6 * * MON-FRI``."""
    every: str = ""
    """Instead of cron: ``90m``, ``6h``, ``7d``."""
    time_zone: str = "UTC"
    """IANA name; cron's times are those of the clock on the wall there."""
    start: datetime | None = None
    end: datetime | None = None
    catch_up: bool = False
    """Whether times that were missed are made up for, one after the other; else only the newest of them is."""


class RolloutConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a gated version takes over an endpoint."""

    canary_percent: Annotated[int, Meta(ge=1, le=99)] = 20
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """False-alarm budget of each sequential test."""
    margin: Annotated[float, Meta(ge=0)] = 0.002
    """A canary may be this much worse in log loss and still count as not worse."""
    min_labels: Annotated[int, Meta(ge=1)] = 200
    """Labelled paired rows needed before the canary can be promoted without proof that it is better."""
    max_windows: Annotated[int, Meta(ge=1)] = 4
    """After this many windows without enough labels the canary is rolled back."""


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything ``mainspring.yaml`` may say."""

    project: str
    settings: dict[str, Any] = {}
    datasets: dict[str, DatasetConfig] = {}
    pipelines: dict[str, PipelineConfig] = {}
    endpoints: dict[str, EndpointConfig] = {}
    monitors: dict[str, MonitorConfig] = {}
    retrain: dict[str, RetrainConfig] = {}
    rollout: RolloutConfig = RolloutConfig()
    schedules: dict[str, ScheduleConfig] = {}
    remotes: dict[str, dict[str, Any]] = {}
    """Settings of engines elsewhere, by name: ``kubeflow``, ``vertex``."""


def load_project(folder: Path) -> Project:
    """Read and check ``mainspring.yaml`` in ``folder``; errors name the place in the file."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise NotFound(f"There is no {FILE_NAME} in {folder}.", hint="Go to a project folder, or pass --project DIR.")
    try:
        document = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InvalidInput(f"{path} is not valid YAML{place}: {problem}.") from error
    try:
        project = msgspec.convert(document, Project)
    except msgspec.ValidationError as error:
        what = "it is empty" if document is None else str(error)
        raise InvalidInput(f"{path} is not a valid project: {what}.") from error
    _check_references(project, path)
    return project


def parse_duration(text: str) -> int:
    """Turn ``90m``, ``6h``, ``7d`` or ``4w`` into milliseconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{text!r} is not a duration.", hint="Write 90m, 6h, 7d or 4w.")
    return int(match[1]) * _UNITS[match[2]]


def _check_references(project: Project, path: Path) -> None:
    for section in ("datasets", "pipelines", "endpoints", "monitors", "retrain", "schedules"):
        for name in getattr(project, section):
            if not _NAME.fullmatch(name):
                raise InvalidInput(f"{path}: {section}.{name} is not a name.", hint="Use letters, digits, . _ and -.")
    for name, dataset in project.datasets.items():
        if Path(dataset.files).is_absolute() or ".." in Path(dataset.files).parts:
            raise InvalidInput(
                f"{path}: datasets.{name}.files is {dataset.files!r}.", hint="Use a pattern below the project folder."
            )
    for name, monitor in project.monitors.items():
        parse_duration(monitor.label_delay)
        if parse_duration(monitor.window) == 0:
            raise InvalidInput(f"{path}: monitors.{name}.window is {monitor.window!r}.", hint="Write 6h, 7d or 4w.")
        if monitor.endpoint not in project.endpoints:
            raise InvalidInput(f"{path}: monitors.{name}.endpoint is {monitor.endpoint!r}, which is not an endpoint.")
    for name, retrain in project.retrain.items():
        if retrain.monitor not in project.monitors:
            raise InvalidInput(f"{path}: retrain.{name}.monitor is {retrain.monitor!r}, which is not a monitor.")
        if retrain.pipeline not in project.pipelines:
            raise InvalidInput(f"{path}: retrain.{name}.pipeline is {retrain.pipeline!r}, which is not a pipeline.")
    _check_schedules(project, path)


def _check_schedules(project: Project, path: Path) -> None:
    for name, schedule in project.schedules.items():
        if schedule.pipeline not in project.pipelines:
            raise InvalidInput(f"{path}: schedules.{name}.pipeline is {schedule.pipeline!r}, which is not a pipeline.")
        if bool(schedule.cron) == bool(schedule.every):
            raise InvalidInput(f"{path}: schedules.{name} has to have either cron or every.", hint="Write one of them.")
        if schedule.every and parse_duration(schedule.every) < 1:
            raise InvalidInput(f"{path}: schedules.{name}.every is {schedule.every!r}.", hint="Write 90m, 6h or 7d.")
