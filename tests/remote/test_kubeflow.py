"""The same compiled file on Kubeflow, through the real kfp.Client and a fake of its API."""

from __future__ import annotations

import json
from urllib.parse import unquote_plus

import pytest

from mainspring import lineage
from mainspring.core import InvalidInput, NotFound, Refused, SystemClock, Unavailable
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


NESTED = """\
pipelineInfo: {name: nested}
schemaVersion: 2.1.0
root:
  dag:
    tasks:
      loop: {componentRef: {name: comp-loop}, taskInfo: {name: loop}, cachingOptions: {enableCache: true}}
components:
  comp-loop:
    dag:
      tasks:
        add: {componentRef: {name: comp-add}, taskInfo: {name: add}, cachingOptions: {enableCache: true, cacheKey: k}}
  comp-add: {executorLabel: exec-add}
deploymentSpec: {executors: {exec-add: {container: {image: 'python:3.11'}}}}
"""


def test_without_cache_the_tasks_inside_of_loops_and_pipelines_are_told_too(kubeflow, remote_files):
    open_remote("kubeflow", {"host": kubeflow.url}).submit(submission(NESTED + remote_files[1], use_cache=False))
    body = json.loads(body_of(kubeflow))["pipeline_spec"]
    spec = body["pipeline_spec"]
    for component, task in ((spec["root"], "loop"), (spec["components"]["comp-loop"], "add")):
        assert component["dag"]["tasks"][task]["cachingOptions"] == {}
    assert body["platform_spec"]["platforms"]


def test_these_requests_are_sent_and_no_others(kubeflow, remote_files):
    kubeflow.on("GET", "/apis/v2beta1/runs/r1", lambda *_: {"run_id": "r1", "state": "RUNNING"})
    kubeflow.on("POST", "/apis/v2beta1/runs/r1:terminate", lambda *_: {})
    engine = open_remote("kubeflow", {"host": kubeflow.url + "/", "experiment": "Mine ✓"})
    engine.submit(submission(remote_files[0]))
    engine.look("r1")
    engine.cancel("r1")
    wanted = {"predicates": [{"operation": 1, "key": "display_name", "stringValue": "Mine ✓"}]}
    api = "/apis/v2beta1"
    assert [(item.method, item.path, unquote_plus(item.query)) for item in kubeflow.requests] == [
        ("GET", f"{api}/healthz", ""),
        ("GET", f"{api}/healthz", ""),
        ("GET", f"{api}/experiments", f"filter={json.dumps(wanted)}&namespace="),
        ("POST", f"{api}/runs", ""),
        ("GET", f"{api}/runs/r1", ""),
        ("POST", f"{api}/runs/r1:terminate", ""),
    ]
    assert [item.body for item in kubeflow.requests if item.path != f"{api}/runs"] == [b""] * 5


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
            "root": "CANCELED", "root/fit[3]": "COMPLETE", "root/fit[4]": "FAILED",
        }  # fmt: skip
        assert tasks["root/fit[3]"].ended_at == 1767225609000
        [made] = lineage.edges_of(connection, tasks["root/fit[3]"].execution_id)
        assert (made.kind, made.path, made.artifact.name) == ("OUTPUT", "model", "kubeflow:17")
        [used] = lineage.executions_of(connection, made.artifact.id, "OUTPUT")
        assert used.id == tasks["root/fit[3]"].execution_id
        types = [event.type for event in lineage.list_events(connection)]
    assert types == ["pipeline.run.started", "task.finished", "task.finished", "pipeline.run.finished"]


def test_artifacts_are_looked_up_once_where_kubeflow_tells_them(kubeflow, remote_files, sqlite_database, blobs):
    ids = {"outputs": {"model": {"artifact_ids": ["17"]}, "accuracy": {"artifact_ids": ["18"]}}}
    done = task("1", "fit", "SUCCEEDED", start_time="2026-01-01T00:00:05Z", **ids)
    kubeflow.on(
        "GET", "/apis/v2beta1/runs/r1", lambda *_: {"state": "SUCCEEDED", "run_details": {"task_details": [done]}}
    )
    told = {
        "17": {"artifact_id": "17", "name": "m", "type": "Model", "uri": "s3://b/m", "metadata": {"framework": "x"}},
        "18": {"artifact_id": "18", "name": "accuracy", "type": "Metric", "number_value": 0.5},
    }
    kubeflow.on("GET", "/apis/v2beta1/artifacts/(.*)", lambda match, _: told[match[1]])
    engine = open_remote("kubeflow", {"host": kubeflow.url})
    mirror = Mirror(database=sqlite_database, blobs=blobs, clock=SystemClock(), actor="ann")
    id = mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={})
    engine.look("r1")
    mirror.follow(engine, id)
    assert len(kubeflow.sent("GET", ".*/artifacts/.*")) == 2
    with sqlite_database.read() as connection:
        [found] = list_tasks(connection, id)
        made = {edge.path: edge.artifact for edge in lineage.edges_of(connection, found.execution_id)}
    assert (made["model"].type, made["model"].uri) == ("system.Model", "s3://b/m")
    assert made["model"].properties["metadata"] == {"framework": "x"}
    assert made["accuracy"].type == "system.Metrics"
    assert made["accuracy"].properties["metadata"] == {"accuracy": 0.5}


def submitted(kubeflow, remote_files, database, blobs):
    engine = open_remote("kubeflow", {"host": kubeflow.url})
    mirror = Mirror(database=database, blobs=blobs, clock=SystemClock(), actor="ann")
    return mirror, engine, mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={})


def test_a_run_that_is_deleted_there_has_failed_here(kubeflow, remote_files, sqlite_database, blobs):
    running = task("1", "add", "RUNNING", start_time="2026-01-01T00:00:05Z")
    answers = [{"state": "RUNNING", "run_details": {"task_details": [running]}}]
    kubeflow.on(
        "GET", "/apis/v2beta1/runs/r1", lambda *_: answers.pop() if answers else (404, {"code": 5, "message": "no r1"})
    )
    mirror, engine, id = submitted(kubeflow, remote_files, sqlite_database, blobs)
    ended = mirror.follow(engine, id, every_seconds=0)
    problem = "It is not on kubeflow any more. Kubeflow does not show the run r1: no r1"
    assert (ended.state, ended.error) == ("FAILED", problem)
    with sqlite_database.read() as connection:
        [found] = list_tasks(connection, id)
        assert found.state == "CANCELED"
        states = [item.state for item in lineage.executions_in(connection, "pipeline_run", id)]
    assert sorted(states) == ["CANCELED", "FAILED"]


def test_a_short_silence_is_waited_out_and_a_long_one_is_said(kubeflow, remote_files, sqlite_database, blobs):
    answers = [(503, {"message": "upstream"})] * 3
    kubeflow.on("GET", "/apis/v2beta1/runs/r1", lambda *_: answers.pop() if answers else {"state": "SUCCEEDED"})
    mirror, engine, id = submitted(kubeflow, remote_files, sqlite_database, blobs)
    pauses = []
    assert mirror.follow(engine, id, every_seconds=5, pause=pauses.append).state == "COMPLETE"
    assert pauses == [5, 10, 15]
    answers += [(500, {"message": "upstream"})] * 9
    id = mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={})
    with pytest.raises(Unavailable, match="upstream") as caught:
        mirror.follow(engine, id, every_seconds=0, pause=pauses.append)
    assert caught.value.hint == f"The run goes on there; follow it with: mainspring remote follow {id}"
    with sqlite_database.read() as connection:
        assert get_run(connection, id).state == "REMOTE"


@pytest.mark.parametrize("status", [401, 403, 302])
def test_a_token_that_is_missing_or_expired_is_told_at_once(kubeflow, remote_files, status):
    kubeflow.on("GET", "/apis/v2beta1/healthz", lambda *_: (status, {"message": "no"}))
    with pytest.raises(Refused, match="asks for a login") as caught:
        open_remote("kubeflow", {"host": kubeflow.url}).submit(submission(remote_files[0]))
    assert "--remote token=" in caught.value.hint
    assert len(kubeflow.requests) == 1


def test_a_token_that_expires_on_the_way_is_told_with_how_to_go_on(kubeflow, remote_files, sqlite_database, blobs):
    kubeflow.on("GET", "/apis/v2beta1/runs/r1", lambda *_: (401, {"message": "token expired"}))
    mirror, engine, id = submitted(kubeflow, remote_files, sqlite_database, blobs)
    with pytest.raises(Refused, match="Kubeflow does not show the run r1: token expired") as caught:
        mirror.follow(engine, id)
    assert "--remote token=" in caught.value.hint
    assert f"mainspring remote follow {id}" in caught.value.hint


def test_a_parameter_that_is_not_there_is_told_before_anything_is_sent(kubeflow, remote_files, sqlite_database, blobs):
    engine = open_remote("kubeflow", {"host": kubeflow.url})
    mirror = Mirror(database=sqlite_database, blobs=blobs, clock=SystemClock(), actor="ann")
    with pytest.raises(InvalidInput, match="no parameter 'numbr'"):
        mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={"numbr": 3})
    needy = remote_files[0].replace("defaultValue: 1.0, isOptional: true", "")
    with pytest.raises(InvalidInput, match="needs the parameter 'number'"):
        mirror.submit(engine, read_compiled(needy.encode()), parameters={})
    assert kubeflow.requests == []


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
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer") as caught:
        open_remote("kubeflow", {"host": "http://127.0.0.1:9"}).look("r1")
    assert "\n" not in str(caught.value)
    kubeflow.on("GET", "/apis/v2beta1/healthz", lambda *_: (404, {}))
    with pytest.raises(NotFound, match="has no healthz"):
        open_remote("kubeflow", {"host": kubeflow.url}).look("r1")
    kubeflow.on("GET", "/apis/v2beta1/healthz", lambda *_: ["<html>"])
    with pytest.raises(InvalidInput, match="not as Kubeflow Pipelines does"):
        open_remote("kubeflow", {"host": kubeflow.url}).look("r1")


def test_a_skipped_task_with_outputs_came_from_the_cache(kubeflow):
    cached = task("1", "fit", "SKIPPED", outputs={"model": {"artifact_ids": ["17"]}})
    seen = {"state": "SUCCEEDED", "run_details": {"task_details": [cached, task("2", "branch", "SKIPPED")]}}
    kubeflow.on("GET", "/apis/v2beta1/runs/r1", lambda *_: seen)
    tasks = open_remote("kubeflow", {"host": kubeflow.url}).look("r1").tasks
    assert [item.state for item in tasks] == ["CACHED", "SKIPPED"]
