"""Experiments, runs, metrics, datasets and artifacts through the client."""

from __future__ import annotations

import math
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

LARGEST = 1.7976931348623157e308


def test_a_run_is_read_back_as_it_was_logged(mlflow: Any, experiment: str) -> None:
    with mlflow.start_run(run_name="first", description="why", tags={"team": "ml"}) as run:
        mlflow.log_params({"depth": 3, "kind": "x", "empty": ""})
        for step in range(3):
            mlflow.log_metric("loss", 1 - step / 10, step=step)
        mlflow.log_metrics({"auc": 0.9, "nan": math.nan, "inf": math.inf, "neg": -math.inf})
        mlflow.set_tag("note", "line\nline")
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.run_name, found.info.status, found.info.experiment_id) == ("first", "FINISHED", experiment)
    assert found.data.params == {"depth": "3", "kind": "x", "empty": ""}
    assert (found.data.metrics["loss"], found.data.metrics["auc"]) == (0.8, 0.9)
    assert math.isnan(found.data.metrics["nan"])
    assert (found.data.metrics["inf"], found.data.metrics["neg"]) == (LARGEST, -LARGEST)
    assert (found.data.tags["team"], found.data.tags["note"]) == ("ml", "line\nline")
    assert found.data.tags["mlflow.note.content"] == "why"
    assert found.info.end_time >= found.info.start_time


def test_latest_metric_is_that_of_the_highest_step_then_time_then_value(client: Any, experiment: str) -> None:
    id = client.create_run(experiment).info.run_id
    for value, timestamp, step in ((5.0, 9, 0), (1.0, 5, 2), (2.0, 5, 2), (3.0, 1, 2), (9.0, 1, 1), (2.0, 5, 2)):
        client.log_metric(id, "m", value, timestamp=timestamp, step=step)
    assert client.get_run(id).data.metrics["m"] == 2.0
    history = {(point.step, point.timestamp, point.value) for point in client.get_metric_history(id, "m")}
    assert history == {(0, 9, 5.0), (2, 5, 1.0), (2, 5, 2.0), (2, 1, 3.0), (1, 1, 9.0)}
    assert client.get_metric_history(id, "none") == []


def test_params_do_not_change_and_tags_do(client: Any, mlflow: Any, experiment: str) -> None:
    id = client.create_run(experiment).info.run_id
    client.log_param(id, "p", "1")
    client.log_param(id, "p", "1")
    with pytest.raises(mlflow.MlflowException, match="Changing param values is not allowed"):
        client.log_param(id, "p", "2")
    client.set_tag(id, "t", "1")
    client.set_tag(id, "t", "2")
    assert (client.get_run(id).data.params, client.get_run(id).data.tags["t"]) == ({"p": "1"}, "2")
    client.delete_tag(id, "t")
    with pytest.raises(mlflow.MlflowException, match="No tag with name: t"):
        client.delete_tag(id, "t")
    with pytest.raises(mlflow.MlflowException, match=r"Run .+ not found"):
        client.delete_tag("fake_run_id", "t")
    client.delete_run(id)
    with pytest.raises(mlflow.MlflowException, match=f"The run {id} must be in the 'active' state"):
        client.set_tag(id, "t", "1")
    client.restore_run(id)
    client.update_run(id, name="renamed")
    client.set_terminated(id, "FAILED")
    found = client.get_run(id).info
    assert (found.run_name, found.status, found.lifecycle_stage) == ("renamed", "FAILED", "active")


def test_nested_and_parallel_runs(mlflow: Any, client: Any, experiment: str) -> None:
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        mlflow.log_metric("m", 1)
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert client.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id

    def log(number: int) -> str:
        id = str(client.create_run(experiment, tags={"number": str(number)}).info.run_id)
        for step in range(5):
            client.log_metric(id, "m", number + step, step=step)
        client.set_terminated(id)
        return id

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(log, range(8)))
    assert [client.get_run(id).data.metrics["m"] for id in ids] == [number + 4 for number in range(8)]


def _log_from_process(url: str, experiment: str, number: int) -> None:
    import mlflow

    mlflow.set_tracking_uri(url)
    with mlflow.start_run(experiment_id=experiment, run_name=f"p{number}"):
        for step in range(5):
            mlflow.log_metric("m", step, step=step)


def test_processes_log_at_the_same_time(mlflow: Any, client: Any, server: Any, experiment: str) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_log_from_process, args=(server.url, experiment, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    runs = client.search_runs([experiment], order_by=["attributes.run_name ASC"])
    assert [(run.info.run_name, run.info.status, run.data.metrics) for run in runs] == [
        ("p0", "FINISHED", {"m": 4.0}),
        ("p1", "FINISHED", {"m": 4.0}),
    ]


def test_search_runs(mlflow: Any, client: Any, experiment: str) -> None:
    for number in range(4):
        run = client.create_run(
            experiment, start_time=1000 + number, run_name=f"Run-{number}", tags={"odd": str(number % 2)}
        )
        client.log_batch(
            run.info.run_id,
            metrics=[mlflow.entities.Metric("m", math.nan if number == 3 else float(number), 1, 0)] if number else [],
            params=[mlflow.entities.Param("p", f"v{number}")],
        )  # fmt: skip

    def names(filter: str = "", *order: str, **given: Any) -> list[str]:
        found = client.search_runs([experiment], filter_string=filter, order_by=list(order), **given)
        return [run.info.run_name[-1] for run in found]

    assert names() == ["3", "2", "1", "0"]
    assert names("metrics.m >= 1") == ["2", "1"]
    assert names("metrics.m > 1 and params.p = 'v2'") == ["2"]
    assert names("params.p != 'v2' and tags.odd = '0'") == ["0"]
    assert names("params.`p` LIKE 'v%' AND tag.\"odd\" ILIKE '1'") == ["3", "1"]
    assert names("attributes.run_name LIKE 'run-%'") == []
    assert names("run_name ILIKE 'run-%' and attributes.start_time > 1001") == ["3", "2"]
    assert names("attributes.status = 'RUNNING' and params.none IS NULL and params.p IS NOT NULL") == list("3210")
    ids = [run.info.run_id for run in client.search_runs([experiment], max_results=2)]
    assert names(f"attributes.run_id IN ('{ids[0]}', '{ids[1]}')") == ["3", "2"]
    assert names("", "metrics.m DESC") == ["2", "1", "3", "0"]
    assert names("", "metrics.m ASC") == ["1", "2", "3", "0"]
    assert names("", "params.p ASC") == ["0", "1", "2", "3"]
    assert names("", "attributes.start_time ASC", max_results=2) == ["0", "1"]
    first = client.search_runs([experiment], max_results=3)
    rest = client.search_runs([experiment], max_results=3, page_token=first.token)
    assert ([run.info.run_name for run in rest], bool(first.token), rest.token) == (["Run-0"], True, None)
    frame = mlflow.search_runs([experiment], filter_string="metrics.m > 0", order_by=["start_time"])
    assert isinstance(frame, pd.DataFrame)
    assert (list(frame["metrics.m"]), list(frame["params.p"]), list(frame["tags.odd"])) == (
        [1, 2],
        ["v1", "v2"],
        ["1", "0"],
    )
    for wrong in (
        "params.p > 3",
        "metrics.m = 'x'",
        "metrics.m > 1 OR metrics.m < 0",
        "bogus.a = 'x'",
        "params.p IN ('v1')",
    ):
        with pytest.raises(mlflow.MlflowException) as error:
            names(wrong)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(mlflow.MlflowException, match="Invalid value 123456789 for parameter 'max_results' supplied"):
        names(max_results=123456789)


def test_experiments_live_and_die(mlflow: Any, client: Any, name: str) -> None:
    id = client.create_experiment(name, tags={"k": "v"})
    run = client.create_run(id).info.run_id
    found = client.get_experiment_by_name(name)
    assert (found.experiment_id, found.tags, found.lifecycle_stage) == (id, {"k": "v"}, "active")
    client.set_experiment_tag(id, "k2", "multi\nline")
    client.delete_experiment_tag(id, "k")
    assert client.get_experiment(id).tags == {"k2": "multi\nline"}
    with pytest.raises(mlflow.MlflowException, match="No tag with name: k"):
        client.delete_experiment_tag(id, "k")
    client.rename_experiment(id, name + "x")
    with pytest.raises(mlflow.MlflowException, match="already exists") as error:
        client.create_experiment(name + "x")
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.delete_experiment(id)
    assert client.get_experiment(id).lifecycle_stage == "deleted"
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    with pytest.raises(mlflow.MlflowException, match="must be in the 'active' state"):
        client.create_run(id)
    with pytest.raises(mlflow.MlflowException, match=f"No Experiment with id={id} exists"):
        client.delete_experiment(id)
    client.restore_experiment(id)
    assert client.get_run(run).info.lifecycle_stage == "active"
    assert client.get_experiment_by_name("nobody-has-this-name") is None
    with pytest.raises(mlflow.MlflowException, match="No Experiment with id=99999 exists"):
        client.get_experiment("99999")


def test_search_experiments(client: Any, name: str) -> None:
    ids = []
    for letter, tags in (("a", {"key": "value"}), ("ab", {"key": "vaLue"}), ("Abc", None)):
        time.sleep(0.002)
        ids.append(client.create_experiment(f"{name}-{letter}", tags=tags))

    def names(filter: str, **given: Any) -> list[str]:
        found = client.search_experiments(filter_string=f"name LIKE '{name}-%' AND {filter}" if filter else "", **given)
        return [one.name.rpartition("-")[2] for one in found if one.name.startswith(name)]

    assert names(f"name = '{name}-a'") == ["a"]
    assert names(f"attribute.name != '{name}-a'") == ["Abc", "ab"]
    assert names("tag.key = 'value'") == ["a"]
    assert names("tag.key != 'value'") == ["ab"]
    assert names("tag.key ILIKE '%alu%'") == ["ab", "a"]
    assert names(f"name LIKE '{name}-%'", order_by=["name DESC"]) == ["ab", "a", "Abc"]
    assert names("", max_results=2) == ["Abc", "ab"]
    from mlflow.entities import ViewType

    client.delete_experiment(ids[1])
    assert names(f"name LIKE '{name}-%'") == ["Abc", "a"]
    assert names(f"name LIKE '{name}-%'", view_type=ViewType.DELETED_ONLY) == ["ab"]
    assert names(f"name LIKE '{name}-%'", view_type=ViewType.ALL) == ["Abc", "ab", "a"]
    page = client.search_experiments(filter_string=f"name = '{name}-a'", max_results=1)
    assert (len(page), page.token) == (1, None)


def test_async_logging_loses_nothing(mlflow: Any, client: Any, experiment: str) -> None:
    with mlflow.start_run() as run:
        for step in range(10):
            mlflow.log_metric("m", step, step=step, synchronous=False)
        mlflow.log_params({"a": "1"}, synchronous=False)
        mlflow.flush_async_logging()
    assert len(client.get_metric_history(run.info.run_id, "m")) == 10
    assert client.get_run(run.info.run_id).data.params == {"a": "1"}


def test_datasets_are_kept_with_their_tags(mlflow: Any, server: Any, experiment: str) -> None:
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "b"])
    with mlflow.start_run() as run:
        for context in ("training", "evaluation"):
            mlflow.log_input(mlflow.data.from_pandas(frame, name=f"d-{context}"), context, {"foo": "baz"})
    inputs = {one.dataset.name: one for one in mlflow.get_run(run.info.run_id).inputs.dataset_inputs}
    tags = {tag.key: tag.value for tag in inputs["d-training"].tags}
    assert tags == {"foo": "baz", "mlflow.data.context": "training"}
    assert (inputs["d-training"].dataset.digest, len(inputs)) == (inputs["d-evaluation"].dataset.digest, 2)
    runs = mlflow.search_runs(
        [experiment], filter_string="datasets.name = 'd-training' and dataset.context = 'training'"
    )
    assert list(runs["run_id"]) == [run.info.run_id]
    path = "/ajax-api/2.0/mlflow/experiments/search-datasets"
    status, answer = server.call("POST", path, {"experiment_ids": [experiment]})
    assert status == 200
    assert {(one["name"], one["context"]) for one in answer["dataset_summaries"]} == {
        ("d-training", "training"), ("d-evaluation", "evaluation"),
    }  # fmt: skip


def test_artifacts_travel_both_ways(mlflow: Any, client: Any, experiment: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "my.file").write_text("Hello, World!")
    (source / "sub" / "ümlaut name.bin").write_bytes(bytes(range(256)) * 100)
    with mlflow.start_run() as run:
        id = run.info.run_id
        assert client.list_artifacts(id) == []
        mlflow.log_artifact(source / "my.file")
        mlflow.log_artifacts(str(source), "dir")
        mlflow.log_dict({"a": 1}, "d.json")
        mlflow.log_text("text", "t.html")
        mlflow.log_table({"x": [1, 2], "y": ["a", "b"]}, "tab.json")
    assert {one.path for one in client.list_artifacts(id)} == {"my.file", "dir", "d.json", "t.html", "tab.json"}
    listed = {one.path: (one.is_dir, one.file_size) for one in client.list_artifacts(id, "dir")}
    assert listed == {"dir/my.file": (False, 13), "dir/sub": (True, None)}
    folder = Path(mlflow.artifacts.download_artifacts(run_id=id, artifact_path="dir"))
    assert (folder / "sub" / "ümlaut name.bin").read_bytes() == bytes(range(256)) * 100
    assert mlflow.artifacts.load_dict(f"runs:/{id}/d.json") == {"a": 1}
    assert mlflow.artifacts.load_text(f"runs:/{id}/t.html") == "text"
    assert list(mlflow.load_table("tab.json", run_ids=[id])["x"]) == [1, 2]
    with pytest.raises(mlflow.MlflowException):
        mlflow.artifacts.download_artifacts(run_id=id, artifact_path="nope")
