"""The command line on other engines, and the schedules of a project: the real commands, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mainspring.automation.recurring import timing_of
from mainspring.automation.schedules import check_schedule
from mainspring.core import InvalidInput
from mainspring.core.project import load_project

PROJECT = """\
project: shop
pipelines:
  train: {file: p.py, function: train}
schedules:
  nightly: {pipeline: train, cron: "0 2 * * *", time_zone: Europe/Berlin}
  often: {pipeline: train, every: 90m}
"""


@pytest.fixture
def mainspring(tmp_path):
    def call(*words, status=0):
        command = [sys.executable, "-m", "mainspring", "--project", str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return call


def test_the_same_command_runs_a_pipeline_on_kubeflow(mainspring, fake, remote_files, tmp_path):
    details = [{"task_id": "1", "display_name": "add", "state": "SUCCEEDED", "start_time": "2026-01-01T00:00:05Z"}]
    states = ["RUNNING", "SUCCEEDED"]
    fake.on("GET", "/apis/v2beta1/healthz", lambda *_: {"multi_user": False})
    fake.on(
        "GET", "/apis/v2beta1/experiments", lambda *_: {"experiments": [{"experiment_id": "e", "display_name": "D"}]}
    )
    fake.on("POST", "/apis/v2beta1/runs", lambda *_: {"run_id": "r1"})
    fake.on(
        "GET", "/apis/v2beta1/runs/r1",
        lambda *_: {"state": states.pop(0) if len(states) > 1 else states[0], "run_details": {"task_details": details}},
    )  # fmt: skip
    (tmp_path / "p.yaml").write_text(remote_files[0])
    (tmp_path / "mainspring.yaml").write_text(f"project: p\nremotes:\n  kubeflow: {{host: '{fake.url}'}}\n")
    words = ("run", str(tmp_path / "p.yaml"), "-p", "number=4", "--on", "kubeflow", "--json")
    run_id = json.loads(mainspring(*words, "--detach").stdout)["run_id"]
    assert "1 of 1 tasks done" in mainspring("remote", "follow", run_id, "--poll", "0.05").stderr
    done = mainspring(*words)
    document = json.loads(done.stdout)
    assert (document["state"], [task["state"] for task in document["tasks"]]) == ("SUCCEEDED", ["SUCCEEDED"])
    submitted = [json.loads(request.body) for request in fake.sent("POST", "/apis/v2beta1/runs")]
    assert [body["runtime_config"]["parameters"] for body in submitted] == [{"number": 4}, {"number": 4}]


def test_engines_and_settings_that_are_not_there_are_named(mainspring, remote_files, tmp_path):
    (tmp_path / "p.yaml").write_text(remote_files[0])
    words = ("run", str(tmp_path / "p.yaml"), "--on")
    assert "no engine 'argo'" in mainspring(*words, "argo", status=2).stderr
    assert "`host`" in mainspring(*words, "kubeflow", status=2).stderr
    assert "--remote NAME=VALUE" in mainspring(*words, "vertex", "--remote", "x", status=2).stderr
    assert (
        "no export to 'cron'" in mainspring("run", str(tmp_path / "p.yaml"), "--export", "cron", "x", status=2).stderr
    )


def test_schedules_are_listed_shown_paused_and_resumed(mainspring, tmp_path):
    (tmp_path / "mainspring.yaml").write_text(PROJECT)
    listed = mainspring("schedules", "list").stdout
    assert "nightly" in listed
    assert "every 5400 s" in listed
    assert "nightly is paused" in mainspring("schedules", "pause", "nightly").stdout
    shown = mainspring("schedules", "show", "nightly").stdout
    assert "0 2 * * * Europe/Berlin, paused" in shown
    assert "next" not in shown
    assert "nightly is enabled; next" in mainspring("schedules", "resume", "nightly").stdout
    assert mainspring("schedules", "show", "nightly").stdout.count("next") == 3
    assert "no schedule 'x'" in mainspring("schedules", "show", "x", status=3).stderr


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [("pipeline: train, cron", "pipeline: fit, cron", "schedules.nightly.pipeline is 'fit'"),
     (', time_zone: Europe/Berlin', ', every: 1h', "either cron or every"),
     ("every: 90m", "every: soon", "'soon' is not a duration"),
     ("0 2 * * *", "0 25 * * *", "is not a hour"),
     ("Europe/Berlin", "Europe/Bonn", "no time zone 'Europe/Bonn'")],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_named(tmp_path, old, new, problem):
    (tmp_path / "mainspring.yaml").write_text(PROJECT.replace(old, new))
    with pytest.raises(InvalidInput) as caught:
        check_schedules(tmp_path)
    assert problem in str(caught.value)


def check_schedules(folder):
    for config in load_project(folder).schedules.values():
        check_schedule(timing_of(config))


def test_following_a_run_that_fails_there_fails_here(mainspring, fake, remote_files, tmp_path):
    fake.on("GET", "/apis/v2beta1/healthz", lambda *_: {"multi_user": False})
    fake.on(
        "GET", "/apis/v2beta1/experiments", lambda *_: {"experiments": [{"experiment_id": "e", "display_name": "D"}]}
    )
    fake.on("POST", "/apis/v2beta1/runs", lambda *_: {"run_id": "r1"})
    fake.on("GET", "/apis/v2beta1/runs/r1", lambda *_: {"state": "FAILED", "error": {"message": "no quota"}})
    (tmp_path / "p.yaml").write_text(remote_files[0])
    (tmp_path / "mainspring.yaml").write_text(f"project: p\nremotes:\n  kubeflow: {{host: '{fake.url}'}}\n")
    words = ("run", str(tmp_path / "p.yaml"), "-p", "number=4", "--on", "kubeflow", "--json", "--detach")
    run_id = json.loads(mainspring(*words).stdout)["run_id"]
    assert "no quota" in mainspring("remote", "follow", run_id, "--poll", "0.05", status=8).stderr
