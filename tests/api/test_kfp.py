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
        deadline = time.monotonic() + 90
        while not self.state.is_file():
            assert self.processes[0].poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        return json.loads(self.state.read_bytes())["url"]

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("house"))
    made.start("server")
    made.url()
    made.start("scheduler")
    ask(made, "POST", "/experiments", {"display_name": "Default"})  # whichever test is the first
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


def predicate(operation, key, **value):
    return json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})


def wait_for_state(client, run_id, *states, timeout=90):
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
    assert [found.display_name for found in versions] == ["sums", "second"]
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
    with pytest.raises(Exception, match="still has 1 version"):
        client.delete_pipeline(pipeline.pipeline_id)
    client.delete_pipeline_version(pipeline.pipeline_id, versions[0].pipeline_version_id)
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
    assert [name for name in names if name.startswith("page-")] == [f"page-{n}" for n in range(5)]
    assert len(names) == len(set(names))
    wanted = predicate("IS_SUBSTRING", "display_name", string_value="PAGE-")
    page = client.list_experiments(page_size=2, sort_by="display_name desc", filter=wanted)
    assert ([item.display_name for item in page.experiments], page.total_size) == (["page-4", "page-3"], 5)
    page = client.list_experiments(page_size=9, page_token=page.next_page_token)
    assert [item.display_name for item in page.experiments] == ["page-2", "page-1", "page-0"]


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
    deadline = time.monotonic() + 90
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


def test_an_experiment_that_is_put_away_takes_its_runs_and_recurring_runs_along(client, compiled):
    experiment = client.create_experiment(" with spaces ").experiment_id
    assert client.create_experiment(" with spaces ").experiment_id == experiment
    package = str(compiled / "adder.yaml")
    run_id = client.create_run_from_pipeline_package(package, experiment_id=experiment).run_id
    recurring = client.create_recurring_run(
        experiment, "daily", cron_expression="0 0 6 * * ?", pipeline_package_path=package
    ).recurring_run_id
    finish(client, run_id)
    client.archive_experiment(experiment)
    assert client.get_experiment(experiment).storage_state == "ARCHIVED"
    assert client.get_run(run_id).storage_state == "ARCHIVED"
    assert client.get_recurring_run(recurring).status == "DISABLED"
    with pytest.raises(Exception, match="in an experiment that is archived") as caught:
        client.unarchive_run(run_id)
    assert (caught.value.status, json.loads(caught.value.body)["code"]) == (400, 9)
    client.unarchive_experiment(experiment)
    client.unarchive_run(run_id)
    archived = predicate("EQUALS", "storage_state", string_value="ARCHIVED")
    assert client.list_runs(experiment_id=experiment, filter=archived).runs is None
    assert client.get_recurring_run(recurring).status == "DISABLED"
    client.delete_experiment(experiment)
    assert client.get_run(run_id).experiment_id == experiment
    with pytest.raises(Exception, match="There is no experiment"):
        client.list_runs(experiment_id=experiment)
    with pytest.raises(Exception, match="default experiment cannot be deleted"):
        client.delete_experiment(client.get_experiment(experiment_name="Default").experiment_id)


def test_a_deleted_run_is_stopped(client, compiled, house, tmp_path):
    path = tmp_path / "never"
    started = client.create_run_from_pipeline_package(str(compiled / "waits.yaml"), arguments={"path": str(path)})
    wait_for_state(client, started.run_id, "RUNNING")
    client.delete_run(started.run_id)
    words = [sys.executable, "-m", "mainspring", "--project", str(house.folder), "graph", started.run_id]
    deadline = time.monotonic() + 90
    while "canceled" not in (shown := subprocess.run(words, capture_output=True, check=True, text=True).stdout):
        assert time.monotonic() < deadline, shown


def test_the_artifacts_and_the_history_of_tasks_are_told(client, samples):
    run = finish(client, client.create_run_from_pipeline_func(samples.files, arguments={}).run_id)
    tasks = {task.display_name: task for task in run.run_details.task_details}
    [made] = tasks["write"].outputs["out"].artifact_ids
    assert tasks["read"].inputs["data"].artifact_ids == [made]
    assert tasks["read"].execution_id
    assert [entry.state for entry in tasks["read"].state_history] == ["RUNNING", "SUCCEEDED"]


def test_a_run_on_another_server_of_ours_is_mirrored_with_its_artifacts(house, samples, tmp_path):
    """Our own engine for Kubeflow, against our own server: what it says is enough to follow it."""
    from kfp import compiler

    compiler.Compiler().compile(samples.files, str(tmp_path / "files.yaml"))
    (tmp_path / "mainspring.yaml").write_text("project: p\n")
    ours = [sys.executable, "-m", "mainspring", "--project", str(tmp_path)]
    words = ["run", str(tmp_path / "files.yaml"), "--on", "kubeflow", "--remote", f"host={house.url()}", "--json"]
    done = subprocess.run([*ours, *words], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["state"] == "SUCCEEDED"
    from mainspring import lineage
    from mainspring.core.project import load_project
    from mainspring.core.settings import resolve_settings
    from mainspring.pipelines import list_tasks

    store = lineage.open_store(resolve_settings(tmp_path), load_project(tmp_path))
    with store.database.read() as connection:
        tasks = {task.name: task for task in list_tasks(connection, document["run_id"])}
        [made] = lineage.edges_of(connection, tasks["write"].execution_id)
        [used] = lineage.edges_of(connection, tasks["read"].execution_id)
    store.close()
    assert made.artifact.id == used.artifact.id
    assert (made.kind, used.kind, made.artifact.type) == ("OUTPUT", "INPUT", "system.Dataset")
    assert made.artifact.uri


def test_what_a_recurring_run_started_keeps_its_place_when_that_is_deleted(client, compiled, tmp_path):
    experiment = client.create_experiment("deleted schedule").experiment_id
    made = client.create_recurring_run(
        experiment, "once", interval_second=1, pipeline_package_path=str(compiled / "notes.yaml"),
        params={"path": str(tmp_path / "notes")},
    ).recurring_run_id  # fmt: skip
    deadline = time.monotonic() + 90
    while not client.list_runs(experiment_id=experiment).runs:
        assert time.monotonic() < deadline, "it did not run"
        time.sleep(0.1)
    client.disable_recurring_run(made)
    before = client.list_runs(experiment_id=experiment, sort_by="created_at desc").runs
    client.delete_recurring_run(made)
    after = client.list_runs(experiment_id=experiment, sort_by="created_at desc").runs
    assert [run.run_id for run in after] == [run.run_id for run in before]
    assert {(run.recurring_run_id, run.display_name.split()[0]) for run in after} == {(made, "once")}


def test_a_recurring_run_whose_runs_could_not_start_is_refused(client, compiled):
    experiment = client.create_experiment("refused").experiment_id
    package = str(compiled / "adder.yaml")
    for problem, options in (
        ("no parameter 'z'", {"interval_second": 60, "params": {"z": 1}}),
        ("not a whole number", {"interval_second": 60, "params": {"a": "[[Index]]"}}),
        ("a hundred years", {"interval_second": 10**18}),
    ):
        with pytest.raises(Exception, match=problem):
            client.create_recurring_run(experiment, "j", pipeline_package_path=package, **options)
    made = client.create_recurring_run(experiment, "named", interval_second=3600, pipeline_package_path=package)
    with pytest.raises(Exception, match="There is no schedule 'named'"):
        client.delete_recurring_run("named")
    client.delete_recurring_run(made.recurring_run_id)


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
        with urllib.request.urlopen(request, timeout=60) as answer:
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
        ("GET", "/runs?page_size=x", None, 400),
        ("GET", "/runs?sort_by=nothing", None, 400),
        ("GET", "/runs?experiment_id=nope", None, 404),
        ("GET", "/runs/a/b/c", None, 404),
        ("PATCH", "/runs", {}, 404),
        ("POST", "/runs", {"pipeline_spec": SPEC, "display_name": "x" * 600}, 400),
        ("POST", "/experiments", {"display_name": "a\x00b"}, 400),
        ("POST", "/experiments", {"display_name": " "}, 400),
        ("POST", "/experiments", {"display_name": "Default"}, 409),
        ("POST", "/pipelines/create", {"pipeline_version": {"package_url": {"pipeline_url": "http://x/y"}}}, 400),
        ("POST", "/pipelines/upload_version", b"x", 400),
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
    assert document["code"] == {400: 3, 404: 5, 409: 6}[status]


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

    spread = "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    bomb = f"pipelineInfo: {{name: x}}\nroot: {{dag: {{tasks: {{}}}}}}\na: &a0 [x, x]\n{spread}".encode()
    for name, content in (
        ("p.yaml", b"- 1"), ("p.yaml", b"{{"), ("p.zip", b"PK"), ("p.tar.gz", b"\x1f\x8b"), ("p.yaml", bomb),
        ("p.yaml", b"a: &a [*a]"), ("p.json", b'{"a":' * 20_000), ("p.json", b'{"pipelineSpec": 3}'),
    ):  # fmt: skip
        status, document = upload(name, content)
        assert status == 400, document
