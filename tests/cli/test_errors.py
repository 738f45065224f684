"""What a person sees when something is wrong: one clear line, a hint, and an exit status that is not 0."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from mainspring.db import connect, open_database

PROJECT = "project: p\npipelines: {train: {file: pipeline.py, function: train}}\nendpoints: {e: {model: m}}\n"


def mainspring(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mainspring", "--project", str(folder), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        timeout=60,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mainspring.yaml").write_text(PROJECT)
    return tmp_path


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode not in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    for part in parts:
        assert part in done.stderr


def test_a_broken_project_file(project: Path) -> None:
    (project / "mainspring.yaml").write_text("project: [")
    assert_refused(mainspring(project, "config", "show"), "mainspring.yaml", "line 1")


def test_an_unknown_key_in_the_project_file(project: Path) -> None:
    (project / "mainspring.yaml").write_text("project: p\nendpionts: {}\n")
    assert_refused(mainspring(project, "runs"), "endpionts")


def test_a_setting_that_is_not_a_number(project: Path) -> None:
    assert_refused(mainspring(project, "runs", MAINSPRING_PORT="http"), "port", "environment", "'http'")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert_refused(mainspring(tmp_path / "nowhere", "runs"), "nowhere")


def test_an_unknown_pipeline_names_the_ones_there_are(project: Path) -> None:
    assert_refused(mainspring(project, "run", "trian"), "'trian'", "train")


def test_a_pipeline_file_that_is_missing(project: Path) -> None:
    assert_refused(mainspring(project, "run", "train"), "pipeline.py")


def test_a_prediction_nobody_logged(project: Path) -> None:
    assert_refused(mainspring(project, "why", "01abc:0"), "01abc")


def test_a_database_from_the_future(project: Path) -> None:
    url = f"sqlite:///{project}/.mainspring/mainspring.db"
    database = open_database(url)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    connect(url).close()
    assert_refused(mainspring(project, "runs"), "9999", "upgrade mainspring")


def test_a_database_nobody_answers_at(project: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = mainspring(project, "--database", f"postgresql://nobody:secret@127.0.0.1:{port}/x", "runs")
    assert_refused(done, "cannot be opened")
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", [("server",), ("up",)])
def test_a_port_in_use(project: Path, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = mainspring(project, "--port", port, *command)
    assert_refused(done, port)


def test_an_address_for_everybody_needs_a_token(project: Path) -> None:
    assert_refused(mainspring(project, "--host", "0.0.0.0", "--port", "0", "server"), "token")


def test_serving_something_that_is_no_model(project: Path) -> None:
    assert_refused(mainspring(project, "serve", "--model", str(project), "--port", "0"), "MLmodel")


def test_serving_an_unregistered_model(project: Path) -> None:
    assert_refused(mainspring(project, "serve", "models:/nothing@champion", "--port", "0"), "nothing")


def test_a_demo_does_not_touch_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert_refused(mainspring(tmp_path, "demo", str(tmp_path)), "not empty")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_help_names_every_command() -> None:
    done = subprocess.run([sys.executable, "-m", "mainspring", "--help"], capture_output=True, text=True, check=True)
    for command in (
        "up",
        "demo",
        "serve",
        "run",
        "resume",
        "runs",
        "logs",
        "models",
        "why",
        "events",
        "data",
        "config",
    ):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("project: p\nrollout: {canary_percent: 500}\n", "canary_percent"),
        ("project: p\nrollout: {alpha: .nan}\n", "alpha"),
        ("project: p\nendpoints: {e: {model: m, port: 99999}}\n", "endpoints"),
        ("project: p\ndatasets: {d: {files: /etc/*}}\n", "/etc/*"),
        ("project: p\nendpoints: {e: {model: m}}\nmonitors: {w: {endpoint: e, window: 0d}}\n", "0d"),
        ("", "empty"),
    ],
)
def test_nonsense_in_the_project_file(project: Path, text: str, named: str) -> None:
    (project / "mainspring.yaml").write_text(text)
    assert_refused(mainspring(project, "runs"), "mainspring.yaml", named)


@pytest.mark.parametrize("port", ["-1", "99999999"])
def test_a_port_that_is_none(project: Path, port: str) -> None:
    assert_refused(mainspring(project, "--port", port, "up"), port)


def test_a_home_that_is_a_file(project: Path) -> None:
    assert_refused(mainspring(project, "--home", "/etc/passwd", "runs"), "/etc/passwd")


def test_two_endpoints_on_one_port(project: Path) -> None:
    (project / "mainspring.yaml").write_text(
        "project: p\nendpoints: {a: {model: m, port: 18999}, b: {model: m, port: 18999}}\n"
    )
    assert_refused(mainspring(project, "--port", "0", "up"), "18999", "endpoint a", "endpoint b")


@pytest.mark.parametrize("command", [("data", "list"), ("events",), ("why", "x:0")])
def test_looking_into_a_folder_that_is_no_project_leaves_nothing_behind(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    assert_refused(mainspring(tmp_path, *command), str(tmp_path), "mainspring up")
    assert list(tmp_path.iterdir()) == []
