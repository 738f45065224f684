"""The same compiled file on Vertex AI, through Google's own client and a fake of its REST API."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from mainspring import lineage
from mainspring.core import InvalidInput, NotFound, Refused, SystemClock, Unavailable
from mainspring.pipelines import list_tasks, read_compiled
from mainspring.pipelines.remote import Mirror, Submission, open_remote
from mainspring.pipelines.remote.vertex import job_id

JOBS = "/v1/projects/p1/locations/europe-west4/pipelineJobs"


@pytest.fixture
def vertex(fake, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)  # the client looks whether the bucket is there
    fake.on("GET", "/storage/v1/b/bucket", lambda *_: {"name": "bucket", "projectNumber": "1"})
    lookup = "google.cloud.aiplatform.utils.resource_manager_utils.get_project_number"
    monkeypatch.setattr(lookup, lambda *_, **__: "1")  # whose bucket it is, asked over gRPC

    def create(_, request):
        id = dict(pair.split("=", 1) for pair in request.query.split("&"))["pipelineJobId"]
        return {**json.loads(request.body), "name": f"{JOBS[4:]}/{id}", "state": 2}

    fake.on("POST", JOBS, create)
    return fake


def engine_of(vertex, **changes):
    settings = {"project": "p1", "root": "gs://bucket/root", "location": "europe-west4", "endpoint": vertex.url}
    return open_remote("vertex", {**settings, "anonymous": True, **changes})


def submission(ir, **changes):
    given = {"ir": ir.encode(), "pipeline": "adder", "run_id": "01R", "parameters": {"number": 3, "rates": [1, 2.5]}}
    return Submission(**{**given, **changes})


def test_a_job_is_submitted_as_one_document_and_what_is_left_out_is_said(vertex, remote_files, spec_of):
    pipeline, platform = remote_files
    done = engine_of(vertex, service_account="runner@p1").submit(submission(pipeline + platform))
    [request] = vertex.sent("POST", JOBS)
    body = json.loads(request.body)
    assert body == {
        "displayName": "adder",
        "labels": {"mainspring-run": "01r"},
        "pipelineSpec": spec_of(pipeline),
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/root",
            "parameterValues": {"number": 3, "rates": [1, 2.5]},
        },
        "serviceAccount": "runner@p1",
    }
    assert sorted(request.query.split("&")) == ["%24alt=json%3Benum-encoding%3Dint", "pipelineJobId=adder-01r"]
    assert done.id == f"{JOBS[4:]}/adder-01r"
    assert done.warnings == (
        "Vertex AI does not know kubernetes: exec-add: secretAsEnv; it was left out",
        "Vertex AI does not know kubernetes: pipelineConfig; it was left out",
    )
    assert "authorization" not in request.headers


def test_a_job_is_followed_and_its_artifacts_and_metrics_are_mirrored(vertex, remote_files, sqlite_database, blobs):
    metrics = {
        "name": "projects/p1/locations/europe-west4/metadataStores/default/artifacts/9", "displayName": "metrics",
        "uri": "gs://bucket/root/9", "schemaTitle": "system.Metrics", "metadata": {"accuracy": 0.5, "rows": 7.0},
    }  # fmt: skip
    tasks = [
        {"taskId": "1", "taskName": "adder-01r", "state": "RUNNING"},
        {
            "taskId": "2", "taskName": "add", "parentTaskId": "1", "state": 3, "startTime": "2026-01-01T00:00:05Z",
            "endTime": "2026-01-01T00:00:09Z", "outputs": {"metrics": {"artifacts": [metrics]}},
        },
        {"taskId": "3", "taskName": "again", "parentTaskId": "1", "state": "SKIPPED"},
    ]  # fmt: skip
    states = [2, "PIPELINE_STATE_RUNNING", 4]

    def show(match, _):
        state = states.pop(0) if len(states) > 1 else states[0]
        return {"name": f"{JOBS[4:]}/{match[1]}", "state": state, "jobDetail": {"taskDetails": tasks}}

    vertex.on("GET", JOBS + "/(.*)", show)
    engine = engine_of(vertex)
    mirror = Mirror(database=sqlite_database, blobs=blobs, clock=SystemClock(), actor="ann")
    id = mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={"number": 3})
    ended = mirror.follow(engine, id, every_seconds=0)
    assert (ended.state, ended.error) == ("COMPLETE", "")
    with sqlite_database.read() as connection:
        found = {task.address: task for task in list_tasks(connection, id)}
        assert {address: task.state for address, task in found.items()} == {"add": "COMPLETE", "again": "CACHED"}
        [edge] = lineage.edges_of(connection, found["add"].execution_id)
    assert (edge.artifact.type, edge.artifact.uri) == ("system.Metrics", "gs://bucket/root/9")
    assert edge.artifact.properties["metadata"] == {"accuracy": 0.5, "rows": 7}


def test_no_cache_is_told_to_every_task_and_cancel_reaches_the_job(vertex, remote_files):
    engine = engine_of(vertex)
    engine.submit(submission(remote_files[0], use_cache=False))
    [request] = vertex.sent("POST", JOBS)
    add = json.loads(request.body)["pipelineSpec"]["root"]["dag"]["tasks"]["add"]
    assert add["cachingOptions"] == {"enableCache": False}
    name = f"{JOBS[4:]}/adder-01r"
    vertex.on("GET", JOBS + "/adder-01r", lambda *_: {"name": name, "state": 3})
    vertex.on("POST", JOBS + "/adder-01r:cancel", lambda *_: {})
    engine.cancel(name)
    assert len(vertex.sent("POST", ".*:cancel")) == 1


def test_a_job_that_is_deleted_there_has_failed_here(vertex, remote_files, sqlite_database, blobs):
    engine = engine_of(vertex)
    mirror = Mirror(database=sqlite_database, blobs=blobs, clock=SystemClock(), actor="ann")
    id = mirror.submit(engine, read_compiled(remote_files[0].encode()), parameters={})
    ended = mirror.follow(engine, id, every_seconds=0)
    assert ended.state == "FAILED"
    assert ended.error.startswith("It is not on vertex any more. Vertex AI does not show the job projects/p1/")


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (403, Refused, "gcloud auth application-default login"),
        (400, InvalidInput, ""),
        (404, NotFound, "deleted"),
    ],
)
def test_what_vertex_does_not_do_is_said_in_one_line(vertex, status, error, hint):
    name = f"{JOBS[4:]}/adder-01r"
    problem = {"error": {"code": status, "message": "because\nof this"}}
    vertex.on("GET", JOBS + "/adder-01r", lambda *_: (status, problem))
    with pytest.raises(error, match=r"Vertex AI does not show the job .*: .*because of this") as caught:
        engine_of(vertex).look(name)
    assert hint in caught.value.hint


def test_expired_credentials_and_a_silent_service_are_told(vertex, monkeypatch):
    from google.api_core.exceptions import ServiceUnavailable
    from google.auth.exceptions import RefreshError
    from google.cloud import aiplatform

    problems = [ServiceUnavailable("down"), RefreshError("Reauthentication is needed.")]

    def fail(*_, **__):
        raise problems.pop()

    monkeypatch.setattr(aiplatform.PipelineJob, "get", fail)
    with pytest.raises(Refused, match="Reauthentication is needed") as caught:
        engine_of(vertex).look("x")
    assert "gcloud auth" in caught.value.hint
    with pytest.raises(Unavailable, match="down") as caught:
        engine_of(vertex).look("x")
    assert "network" in caught.value.hint


@pytest.mark.filterwarnings("ignore:Unrecognized PipelineState")
def test_a_state_that_is_newer_than_the_list_is_no_end(vertex):
    name = f"{JOBS[4:]}/adder-01r"
    vertex.on("GET", JOBS + "/adder-01r", lambda *_: {"name": name, "state": 99})
    assert engine_of(vertex).look(name).state == "RUNNING"


def test_the_clients_log_does_not_go_to_stdout(vertex, remote_files, capsys):
    from google.cloud.aiplatform import pipeline_jobs

    logger = logging.getLogger("google.cloud.aiplatform.pipeline_jobs")
    handler = logging.StreamHandler(sys.stdout)  # as the client adds one where there is none
    logger.addHandler(handler)
    try:
        engine_of(vertex).submit(submission(remote_files[0]))
        assert pipeline_jobs._LOGGER is not None
        assert handler.stream is sys.stderr
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().out == ""


def test_ids_are_as_vertex_wants_them():
    assert job_id("My Pipeline!", "01ABC") == "my-pipeline-01abc"
    assert job_id("2nd", "01ABC") == "p-2nd-01abc"
    assert job_id("???", "01ABC") == "p-01abc"
    assert len(job_id("x" * 400, "01ABC")) <= 128


def test_a_folder_that_is_none_of_cloud_storage_is_refused():
    with pytest.raises(InvalidInput, match="gs://"):
        open_remote("vertex", {"project": "p", "root": "/tmp/x"})
