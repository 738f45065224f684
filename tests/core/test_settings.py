from __future__ import annotations

from pathlib import Path

import pytest

from mainspring.core import InvalidInput, NotFound
from mainspring.core.project import load_project, parse_duration
from mainspring.core.settings import resolve_settings


def test_later_sources_win_and_every_value_knows_its_source(tmp_path: Path) -> None:
    resolved = resolve_settings(
        tmp_path,
        file={"port": 1, "seed": 2, "host": "::1"},
        environment={"MAINSPRING_SEED": "3", "MAINSPRING_PORT": "4", "OTHER": "x"},
        flags={"port": 5, "home": None},
    )
    assert (resolved.values.port, resolved.values.seed, resolved.values.host) == (5, 3, "::1")
    assert resolved.sources["port"] == "flag"
    assert resolved.sources["seed"] == "environment"
    assert resolved.sources["host"] == "mainspring.yaml"
    assert resolved.sources["home"] == "default"


def test_a_wrong_value_names_the_key_the_value_and_the_source(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="port from environment is 'many'"):
        resolve_settings(tmp_path, environment={"MAINSPRING_PORT": "many"})


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Unknown setting 'prot'"):
        resolve_settings(tmp_path, file={"prot": 1})


def test_an_unrelated_environment_variable_is_ignored(tmp_path: Path) -> None:
    assert resolve_settings(tmp_path, environment={"MAINSPRING_SOMETHING": "1"}).values.port == 5000


def test_the_database_defaults_to_sqlite_in_the_home_folder(tmp_path: Path) -> None:
    assert resolve_settings(tmp_path).database_url == f"sqlite:///{tmp_path}/.mainspring/mainspring.db"


def write(folder: Path, text: str) -> Path:
    (folder / "mainspring.yaml").write_text(text)
    return folder


def test_a_project_is_read_with_its_defaults(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, "project: p\nendpoints: {e: {model: m}}\nmonitors: {w: {endpoint: e}}\n"))
    assert project.endpoints["e"].port == 8080
    assert project.monitors["w"].window == "7d"
    assert project.rollout.canary_percent == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("project: [", "not valid YAML at line 1"),
        ("project: p\nendpoint: {}\n", "unknown field `endpoint`"),
        ("project: p\nendpoints: {e: {model: m, port: high}}\n", "endpoints"),
        ("{}", "missing required field `project`"),
        ("project: p\nmonitors: {w: {endpoint: nowhere}}\n", "'nowhere', which is not an endpoint"),
        ("project: p\nendpoints: {e: {model: m}}\nmonitors: {w: {endpoint: e, window: 7 days}}\n", "not a duration"),
        ("project: p\nendpoints: {../e: {model: m}}\n", "is not a name"),
    ],
)
def test_a_broken_project_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        load_project(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_project_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=str(tmp_path)):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("text", "ms"), [("90m", 5_400_000), ("6h", 21_600_000), ("7d", 604_800_000), ("1w", 604_800_000)]
)
def test_durations(text: str, ms: int) -> None:
    assert parse_duration(text) == ms
