"""The same compiled file on Kubeflow, through the real kfp.Client and a fake of its API."""

from __future__ import annotations

import json

import pytest

from mainspring import lineage
from mainspring.core import InvalidInput, NotFound, SystemClock, Unavailable
from mainspring.pipelines import get_run, list_tasks, read_compiled
from mainspring.pipelines.remote import Mirror, Submission, open_remote, remote_id

EXPERIMENT = {"experiment_id": "e1", "display_name": "Default"}


def task(id, name, state, **more):
    return {"run_id": "r1", "task_id": id, "display_name": name, "state": state, **more}


@pytest.fixture
def kubeflow(fake):
    fake.on("GET", "/apis/v2beta1/healthz", lambda *_: {"multi_user": False})
    fake.on("GET", "/apis/v2beta1/experiments", lambda *_: {"experiments": [EXPERIMENT]})
    fake.on("POST", "/apis/v2beta1/runs", lambda *_: {"run_id": "r1", "experiment_id": "e1", "state": "PENDING"})
    return fake


def submission(ir, **changes):
    given = {"ir": ir.encode(), "pipeline": "adder", "run_id": "01R", "parameters": {"number": 3, "rates": [1, 2.5]}}
    return Submission(**{**given, **changes})


def body_of(kubeflow):
    [request] = kubeflow.sent("POST", "/apis/v2beta1/runs")
    return request.body


def test_a_run_is_submitted_as_the_compiled_file_says(kubeflow, remote_files, spec_of):
    done = open_remote("kubeflow", {"host": kubeflow.url}).submit(submission(remote_files[0]))
    expected = {
        "display_name": "adder 01R",
        "experiment_id": "e1",
        "pipeline_spec": spec_of(remote_files[0]),
        "runtime_config": {"parameters": {"number": 3, "rates": [1, 2.5]}},
    }
    assert json.loads(body_of(kubeflow)) == expected
    assert body_of(kubeflow) == json.dumps(json.loads(body_of(kubeflow))).encode()
    assert b'"number": 3,' in body_of(kubeflow), "an int stays an int"
    assert done.id == "r1"
    assert done.url == f"{kubeflow.url}/#/runs/details/r1"


def test_the_platforms_document_goes_along(kubeflow, remote_files, spec_of):
    open_remote("kubeflow", {"host": kubeflow.url}).submit(submission(remote_files[0] + remote_files[1]))
    spec = json.loads(body_of(kubeflow))["pipeline_spec"]
    assert spec["pipeline_spec"] == spec_of(remote_files[0])
    kubernetes = spec["platform_spec"]["platforms"]["kubernetes"]
    [secret] = kubernetes["deploymentSpec"]["executors"]["exec-add"]["secretAsEnv"]
    assert secret["secretName"] == "s"


def test_without_cache_every_task_is_told(kubeflow, remote_files):
    settings = {"host": kubeflow.url, "service_account": "runner", "pipeline_root": "s3://b/r", "token": "t0k"}
    open_remote("kubeflow", settings).submit(submission(remote_files[0], use_cache=False))
    body = json.loads(body_of(kubeflow))
    assert body["pipeline_spec"]["root"]["dag"]["tasks"]["add"]["cachingOptions"] == {}
    assert body["service_account"] == "runner"
    assert body["runtime_config"]["pipeline_root"] == "s3://b/r"
    assert all(request.headers["authorization"] == "Bearer t0k" for request in kubeflow.requests)


def test_nothing_is_printed_on_stdout(kubeflow, remote_files, capsys):
    open_remote("kubeflow", {"host": kubeflow.url}).submit(submission(remote_files[0]))
    assert capsys.readouterr().out == ""


def test_a_run_is_followed_and_mirrored(kubeflow, remote_files, database, blobs):
    engine = open_remote("kubeflow", {"host": kubeflow.url})
    root = task("1", "root", "RUNNING")
    loop = [task("3", "fit", "SUCCEEDED", parent_task_id="1"), task("4", "fit", "RUNNING", parent_task_id="1")]
    for item in loop:
        item["start_time"] = "2026-01-01T00:00:05Z"
    loop[0] |= {"end_time": "2026-01-01T00:00:09Z", "outputs": {"model": {"artifact_ids": ["17"]}}}
    failed = loop[1] | {"state": "FAILED", "error": {"message": "no memory"}}
    failed["inputs"] = {"data": {"artifact_ids": ["17"]}}
    answers = [
        {"run_id": "r1", "state": "PENDING"},
        {"run_id": "r1", "state": "RUNNING", "run_details": {"task_details": [root, *loop]}},
        {"run_id": "r1", "state": "FAILED", "run_details": {"task_details": [root, loop[0], failed]}},
    ]
    kubeflow.on("GET", "/apis/v2beta1/runs/r1", lambda *_: answers.pop(0) if len(answers) > 1 else answers[0])
    mirror = Mirror(database=database, blobs=blobs, clock=SystemClock(), actor="ann")
    id = mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={"number": 3})
    states = []
    ended = mirror.follow(engine, id, every_seconds=0, on_change=lambda seen: states.append(seen.state))
    assert states == ["PENDING", "RUNNING", "FAILED"]
    assert (ended.state, ended.error) == ("FAILED", "Task root/fit[4] failed: no memory")
    with database.read() as connection:
        tasks = {item.address: item for item in list_tasks(connection, id)}
        assert {address: item.state for address, item in tasks.items()} == {
            "root": "RUNNING", "root/fit[3]": "COMPLETE", "root/fit[4]": "FAILED",
        }  # fmt: skip
        assert tasks["root/fit[3]"].ended_at == 1767225609000
        [made] = lineage.edges_of(connection, tasks["root/fit[3]"].execution_id)
        assert (made.kind, made.path, made.artifact.name) == ("OUTPUT", "model", "kubeflow:17")
        [used] = lineage.executions_of(connection, made.artifact.id, "OUTPUT")
        assert used.id == tasks["root/fit[3]"].execution_id
        types = [event.type for event in lineage.list_events(connection)]
    assert types == ["pipeline.run.started", "task.finished", "task.finished", "pipeline.run.finished"]


def test_a_follower_that_starts_again_writes_nothing_twice(kubeflow, remote_files, sqlite_database, blobs):
    engine = open_remote("kubeflow", {"host": kubeflow.url})
    done = task("1", "add", "SUCCEEDED", start_time="2026-01-01T00:00:05Z")
    seen = {"state": "SUCCEEDED", "run_details": {"task_details": [done]}}
    kubeflow.on("GET", "/apis/v2beta1/runs/r1", lambda *_: seen)
    mirror = Mirror(database=sqlite_database, blobs=blobs, clock=SystemClock(), actor="ann")
    id = mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={})
    with sqlite_database.read() as connection:
        assert get_run(connection, id).state == "REMOTE"
        assert remote_id(get_run(connection, id), "kubeflow") == "r1"
    mirror.reflect(id, engine.look("r1"))
    assert mirror.follow(engine, id).state == "COMPLETE"
    with sqlite_database.read() as connection:
        assert len(lineage.executions_in(connection, "pipeline_run", id)) == 2


def test_cancel_terminates_the_run(kubeflow):
    kubeflow.on("POST", "/apis/v2beta1/runs/r1:terminate", lambda *_: {})
    open_remote("kubeflow", {"host": kubeflow.url}).cancel("r1")
    assert len(kubeflow.sent("POST", ".*:terminate")) == 1


def test_what_goes_wrong_is_said_in_one_line(kubeflow, remote_files):
    engine = open_remote("kubeflow", {"host": kubeflow.url})
    with pytest.raises(NotFound, match="Kubeflow does not show the run r9"):
        engine.look("r9")
    kubeflow.on("POST", "/apis/v2beta1/runs", lambda *_: (400, {"message": "unknown component"}))
    with pytest.raises(InvalidInput, match="unknown component"):
        engine.submit(submission(remote_files[0]))
    with pytest.raises(InvalidInput, match="host"):
        open_remote("kubeflow", {})
    with pytest.raises(InvalidInput, match="no engine 'argo'"):
        open_remote("argo", {})
    with pytest.raises(Unavailable, match="Kubeflow does not"):
        open_remote("kubeflow", {"host": "http://127.0.0.1:9"}).look("r1")
