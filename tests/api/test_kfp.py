"""The server as Kubeflow Pipelines: the real, unmodified kfp.Client against a real server, worker and scheduler."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest


class House:
    """A project folder with its processes."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.state = folder / ".mainspring" / "server.json"

    def start(self, *words):
        command = [sys.executable, "-m", "mainspring", "--project", str(self.folder), *words]
        environment = {**os.environ, "MAINSPRING_PORT": "0"}
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def url(self):
        deadline = time.monotonic() + 40
        while not self.state.is_file():
            assert self.processes[0].poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        return json.loads(self.state.read_bytes())["url"]

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=20)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("house"))
    made.start("server")
    made.url()
    made.start("scheduler")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(house):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp

        yield kfp.Client(host=house.url())


@pytest.fixture(scope="module")
def samples():
    spec = importlib.util.spec_from_file_location("kfp_samples", Path(__file__).with_name("kfp_samples.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compiled(samples, tmp_path_factory):
    from kfp import compiler

    folder = tmp_path_factory.mktemp("compiled")
    for name in ("adder", "notes", "waits", "needs"):
        compiler.Compiler().compile(getattr(samples, name), str(folder / f"{name}.yaml"))
    return folder


def wait_for_state(client, run_id, *states, timeout=40):
    deadline = time.monotonic() + timeout
    while (run := client.get_run(run_id)).state not in states:
        assert time.monotonic() < deadline, run.state
        time.sleep(0.05)
    return run


def finish(client, run_id):
    return wait_for_state(client, run_id, "SUCCEEDED", "FAILED", "CANCELED")


def test_a_package_is_submitted_and_waited_for(client, compiled):
    started = client.create_run_from_pipeline_package(
        str(compiled / "adder.yaml"), arguments={"a": 5}, run_name="five", experiment_name="sums"
    )
    run = started.wait_for_run_completion(timeout=60)
    assert (run.state, run.display_name) == ("SUCCEEDED", "five")
    assert run.experiment_id == client.get_experiment(experiment_name="sums").experiment_id
    assert run.runtime_config.parameters == {"a": 5}
    assert run.finished_at >= run.created_at
    assert [entry.state for entry in run.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert {task.display_name: task.state for task in run.run_details.task_details} == {
        "add": "SUCCEEDED", "add-2": "SUCCEEDED",
    }  # fmt: skip
    assert run.pipeline_spec["pipelineInfo"]["name"] == "adder"


def test_a_function_is_submitted_and_the_cache_is_said(client, samples):
    first = client.create_run_from_pipeline_func(samples.adder, arguments={"a": 70})
    assert finish(client, first.run_id).state == "SUCCEEDED"
    again = finish(client, client.create_run_from_pipeline_func(samples.adder, arguments={"a": 70}).run_id)
    assert {task.state for task in again.run_details.task_details} == {"SKIPPED"}
    fresh = client.create_run_from_pipeline_func(samples.adder, arguments={"a": 70}, enable_caching=False)
    assert {task.state for task in finish(client, fresh.run_id).run_details.task_details} == {"SUCCEEDED"}


def test_pipelines_and_their_versions_are_kept_and_run(client, compiled):
    pipeline = client.upload_pipeline(str(compiled / "adder.yaml"), pipeline_name="sums", description="adds")
    assert client.get_pipeline_id("sums") == pipeline.pipeline_id
    assert client.get_pipeline(pipeline.pipeline_id).description == "adds"
    packed = compiled / "adder.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(compiled / "adder.yaml", "pipeline.yaml")
    version = client.upload_pipeline_version(str(packed), "second", pipeline_id=pipeline.pipeline_id)
    versions = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert [found.display_name for found in versions] == ["second", "sums"]
    found = client.get_pipeline_version(pipeline.pipeline_id, version.pipeline_version_id)
    assert found.pipeline_spec["pipelineInfo"]["name"] == "adder"
    experiment = client.create_experiment("versions")
    run = client.run_pipeline(
        experiment.experiment_id, "by version", pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id, params={"a": 1},
    )  # fmt: skip
    done = finish(client, run.run_id)
    assert done.state == "SUCCEEDED"
    assert done.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    listed = client.list_runs(experiment_id=experiment.experiment_id).runs
    assert [item.run_id for item in listed] == [run.run_id]
    client.delete_pipeline_version(pipeline.pipeline_id, version.pipeline_version_id)
    client.delete_pipeline(pipeline.pipeline_id)
    assert client.get_pipeline_id("sums") is None


def test_lists_come_in_pages(client):
    for number in range(5):
        client.create_experiment(f"page-{number}")
    names, token = [], ""
    while True:
        page = client.list_experiments(page_size=2, page_token=token)
        names += [item.display_name for item in page.experiments]
        token = page.next_page_token
        if not token:
            break
    assert [name for name in names if name.startswith("page-")] == [f"page-{n}" for n in (4, 3, 2, 1, 0)]
    assert len(names) == len(set(names))


def test_a_run_is_terminated(client, compiled, tmp_path):
    started = client.create_run_from_pipeline_package(
        str(compiled / "waits.yaml"), arguments={"path": str(tmp_path / "never")}
    )
    wait_for_state(client, started.run_id, "RUNNING")
    client.terminate_run(started.run_id)
    assert finish(client, started.run_id).state == "CANCELED"


def test_a_failed_run_says_why_and_goes_on_after_retry(client, compiled, house, tmp_path):
    path = tmp_path / "file"
    started = client.create_run_from_pipeline_package(str(compiled / "needs.yaml"), arguments={"path": str(path)})
    failed = finish(client, started.run_id)
    assert failed.state == "FAILED"
    assert "the file is not there" in failed.error.message
    [task] = failed.run_details.task_details
    assert "the file is not there" in task.error.message
    path.touch()
    client._run_api.run_service_retry_run(run_id=started.run_id)
    assert finish(client, started.run_id).state == "SUCCEEDED"


def test_runs_are_archived_and_deleted(client, compiled):
    run_id = client.create_run_from_pipeline_package(str(compiled / "adder.yaml")).run_id
    finish(client, run_id)
    client.archive_run(run_id)
    assert client.get_run(run_id).storage_state == "ARCHIVED"
    client.unarchive_run(run_id)
    assert client.get_run(run_id).storage_state == "AVAILABLE"
    client.delete_run(run_id)
    with pytest.raises(Exception, match="There is no pipeline run"):
        client.get_run(run_id)


def test_a_recurring_run_runs_again_and_again_until_it_is_disabled(client, compiled, tmp_path):
    experiment = client.create_experiment("recurring")
    made = client.create_recurring_run(
        experiment.experiment_id, "every second", interval_second=1, max_concurrency=2,
        pipeline_package_path=str(compiled / "notes.yaml"),
        params={"path": str(tmp_path / "notes"), "text": "[[ScheduledTime]] [[Index]]"},
    )  # fmt: skip
    assert (made.status, made.trigger.periodic_schedule.interval_second) == ("ENABLED", "1")
    deadline = time.monotonic() + 40
    lines = []
    while len(lines) < 2:
        assert time.monotonic() < deadline, "it did not run twice"
        time.sleep(0.1)
        lines = (tmp_path / "notes").read_text().splitlines() if (tmp_path / "notes").is_file() else []
    client.disable_recurring_run(made.recurring_run_id)
    assert client.get_recurring_run(made.recurring_run_id).status == "DISABLED"
    assert len({line.split()[0] for line in lines}) == len(lines), "no time has two runs"
    runs = client.list_runs(experiment_id=experiment.experiment_id).runs
    assert {run.recurring_run_id for run in runs} == {made.recurring_run_id}
    client.enable_recurring_run(made.recurring_run_id)
    listed = client.list_recurring_runs(experiment_id=experiment.experiment_id).recurring_runs
    assert [(item.display_name, item.mode) for item in listed] == [("every second", "ENABLE")]
    client.delete_recurring_run(made.recurring_run_id)
    assert not client.list_recurring_runs(experiment_id=experiment.experiment_id).recurring_runs


def test_a_cron_schedule_is_kept_as_it_was_given(client, compiled):
    experiment = client.create_experiment("cron")
    made = client.create_recurring_run(
        experiment.experiment_id, "mornings", cron_expression="0 0 6 * * 1-5", no_catchup=True, enabled=False,
        start_time="2026-01-01T00:00:00Z", pipeline_package_path=str(compiled / "adder.yaml"),
    )  # fmt: skip
    found = client.get_recurring_run(made.recurring_run_id)
    assert (found.trigger.cron_schedule.cron, found.no_catchup, found.status) == ("0 0 6 * * 1-5", True, "DISABLED")
    assert found.trigger.cron_schedule.start_time.isoformat() == "2026-01-01T00:00:00+00:00"
    client.delete_recurring_run(made.recurring_run_id)


def ask(house, method, path, body=None, content_type="application/json"):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        house.url() + "/apis/v2beta1" + path, data=data, method=method, headers={"content-type": content_type}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


SPEC = {"pipelineInfo": {"name": "x"}, "root": {}}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/runs", b"{", 400),
        ("POST", "/runs", {}, 400),
        ("POST", "/runs", {"pipeline_spec": SPEC}, 400),
        ("POST", "/runs", {"pipeline_spec": {"pipeline_spec": 3}}, 400),
        ("POST", "/runs", {"pipeline_spec": SPEC, "runtime_config": []}, 400),
        ("POST", "/runs", {"pipeline_version_reference": {"pipeline_id": "nope"}}, 404),
        ("GET", "/runs/nope", None, 404),
        ("POST", "/runs/nope:terminate", None, 404),
        ("GET", "/runs?filter=%7B", None, 400),
        ("GET", "/runs?page_token=x", None, 400),
        ("POST", "/experiments", {"display_name": ""}, 400),
        ("POST", "/experiments", {"display_name": 7}, 400),
        ("GET", "/experiments/nope", None, 404),
        ("POST", "/pipelines/upload", b"x", 400),
        ("POST", "/recurringruns", {"pipeline_spec": SPEC}, 400),
        ("DELETE", "/recurringruns/nope", None, 404),
    ],
)
def test_what_a_client_gets_wrong_is_answered_with_what_is_wrong(house, method, path, body, status):
    found, document = ask(house, method, path, body)
    assert found == status, document
    assert document["message"]
    assert document["code"] == {400: 3, 404: 5}[status]


def test_schedules_that_cannot_be_are_refused(house, compiled):
    import yaml

    spec = yaml.safe_load((compiled / "adder.yaml").read_text())
    for trigger in ({"cron_schedule": {"cron": "every day"}}, {"periodic_schedule": {"interval_second": "x"}}, {}):
        status, document = ask(house, "POST", "/recurringruns", {"pipeline_spec": spec, "trigger": trigger})
        assert status == 400, document
    broken = {"cron_schedule": {"cron": "* * * * *", "start_time": "noon"}}
    assert ask(house, "POST", "/recurringruns", {"pipeline_spec": spec, "trigger": broken})[0] == 400


def test_an_upload_that_is_no_pipeline_is_refused(house):
    def upload(name, content):
        body = f'--B\r\nContent-Disposition: form-data; name="uploadfile"; filename="{name}"\r\n\r\n'.encode()
        return ask(
            house, "POST", "/pipelines/upload", body + content + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"
        )

    for name, content in (("p.yaml", b"- 1"), ("p.yaml", b"{{"), ("p.zip", b"PK"), ("p.tar.gz", b"\x1f\x8b")):
        status, document = upload(name, content)
        assert status == 400, document
