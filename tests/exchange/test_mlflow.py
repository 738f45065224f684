"""From a real MLflow server into our store and back into another: nothing is lost on the way."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core import InvalidInput, NotFound
from mainspring.exchange import export_mlflow, import_mlflow
from mainspring.exchange.mlflow_database import reflect
from mainspring.registry import alias_history, get_version, list_versions
from mainspring.tracking import (
    create_experiment,
    find_run,
    get_logged_model,
    get_run,
    metric_history,
    read_run_artifact,
    search_experiments,
)

LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"


def quiet(_: str, __: int, ___: int) -> None:
    """Show no progress."""


def describe(client: Any) -> dict[str, Any]:
    """Return all that MLflow's client tells about a store, except where files lie; no description is an empty one."""
    from mlflow.entities import ViewType

    found: dict[str, Any] = {}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        id = experiment.experiment_id
        found["experiment", experiment.name] = (id, experiment.lifecycle_stage, experiment.tags)
        for run in client.search_runs([id], run_view_type=ViewType.ALL):
            found["run", run.info.run_id] = describe_run(client, run)
        for model in client.search_logged_models([id]):
            measured = sorted((m.key, m.value, m.step, m.dataset_name, m.run_id) for m in model.metrics or [])
            found["model", model.model_id] = (
                model.name, model.status, model.model_type, model.source_run_id, model.params, model.tags,
                model.creation_timestamp, measured,
            )  # fmt: skip
    for registered in client.search_registered_models():
        aliases = {alias: str(version) for alias, version in registered.aliases.items()}
        found["registered", registered.name] = (registered.description or "", registered.tags, aliases)
        for version in client.search_model_versions(f"name = '{registered.name}'"):
            found["version", registered.name, str(version.version)] = (
                version.source, version.run_id, version.description or "", version.tags, version.current_stage,
                version.creation_timestamp, sorted(version.aliases),
            )  # fmt: skip
    return found


def describe_run(client: Any, run: Any) -> tuple[Any, ...]:
    info, run = run.info, client.get_run(run.info.run_id)
    histories = {
        key: [
            (m.timestamp, m.step, "NaN" if math.isnan(m.value) else m.value)
            for m in client.get_metric_history(info.run_id, key)
        ]
        for key in run.data.metrics
    }
    latest = {key: "NaN" if math.isnan(value) else value for key, value in run.data.metrics.items()}
    datasets = [
        (found.dataset.to_dictionary(), sorted((tag.key, tag.value) for tag in found.tags))
        for found in run.inputs.dataset_inputs
    ]
    return (
        info.run_name, info.status, info.start_time, info.end_time, info.lifecycle_stage, info.user_id,
        info.experiment_id, run.data.params, run.data.tags, latest, histories, datasets,
        [found.model_id for found in run.inputs.model_inputs],
        [(found.model_id, found.step) for found in run.outputs.model_outputs],
    )  # fmt: skip


@pytest.fixture
def mlflow_client():
    from mlflow import MlflowClient

    return lambda uri: MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_a_round_trip_through_our_store_loses_nothing(
    mlflow_data: Any, mlflow_client: Callable, new_store: Callable, tmp_path: Path
) -> None:
    store = new_store()
    taken = import_mlflow(store, mlflow_data.database, artifacts=mlflow_data.artifacts, progress=quiet)
    assert taken.bad == []
    assert taken.new["runs"] == 3
    second, artifacts = tmp_path / "second.db", tmp_path / "artifacts"
    shutil.copy(mlflow_data.empty_database, second)
    given = export_mlflow(store, f"sqlite:///{second}", artifacts, progress=quiet)
    assert given.bad == []
    before = describe(mlflow_client(mlflow_data.uri))
    assert describe(mlflow_client(f"sqlite:///{second}")) == before
    assert len(before) == 3 + 3 + 1 + 1 + 3
    known = mlflow_data.known
    for path in (f"{known['experiment']}/{known['run']}", f"{known['experiment']}/models/{known['model']}"):
        assert read_files(artifacts / path) == read_files(mlflow_data.artifacts / path) != {}
    with sa.create_engine(f"sqlite:///{second}").connect() as connection:
        rows = connection.execute(sa.text("SELECT storage_location FROM model_versions ORDER BY version")).scalars()
        frozen = [artifacts / location.removeprefix("mlflow-artifacts:/") for location in rows]
    for folder in frozen:
        assert read_files(folder) == read_files(mlflow_data.folder / "model")
    again = export_mlflow(store, f"sqlite:///{second}", artifacts, progress=quiet)
    assert again.files == 0
    assert describe(mlflow_client(f"sqlite:///{second}")) == before


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_what_is_imported_is_ours_in_every_part(
    mlflow_data: Any, new_store: Callable, request: pytest.FixtureRequest, backend: str
) -> None:
    url = "" if backend == "sqlite" else request.getfixturevalue("postgresql_url")
    store, known = new_store(url), mlflow_data.known
    import_mlflow(store, mlflow_data.database, artifacts=mlflow_data.artifacts, progress=quiet)
    with store.database.read() as connection:
        run = get_run(connection, known["run"])
        assert (run.name, run.status, run.end_time, run.experiment_id) == (
            "one",
            "FINISHED",
            99_000,
            known["experiment"],
        )
        assert run.artifact_uri == f"mlflow-artifacts:/{known['experiment']}/{known['run']}/artifacts"
        assert run.tags["note"] == "multi\nline ünïcode"
        number = find_run(connection, run.id).number
        history = metric_history(connection, number, "loss")
        assert len(history) == 1000
        assert math.isnan(history[500].value)
        (dataset,) = run.datasets
        assert (dataset.name, dataset.tags, dataset.profile) == (
            "flights",
            {"mlflow.data.context": "train"},
            '{"rows": 3}',
        )
        assert [(link.kind, link.model_id, link.step) for link in run.models] == [("output", known["model"], 7)]
        assert read_run_artifact(connection, store.blobs, run.id, "notes/a file.txt") == b"hello"
        assert get_run(connection, known["deleted"]).lifecycle_stage == "deleted"
        model = get_logged_model(connection, known["model"])
        assert [(found.metric.key, found.metric.value, found.run_id) for found in model.metrics] == [
            ("auc", 0.75, run.id)
        ]
        versions = list_versions(connection, "delays")
        assert [(v.version, v.aliases, v.stage) for v in versions] == [
            ("4", ["challenger"], "None"), ("2", ["champion"], "None"), ("1", [], "Archived"),
        ]  # fmt: skip
        assert versions[-1].signature["inputs"] == [{"type": "double", "name": "x"}]
        assert versions[-1].logged_model_id == known["model"]
        assert alias_history(connection, "delays", alias="champion")[0].reason == "imported from MLflow"
        stages = {found.name: found.lifecycle_stage for found in search_experiments(connection, view="ALL").experiments}
        assert stages == {"Default": "active", "flights": "active", "gone": "deleted"}
    with store.database.write() as connection:  # ids go on after those that came
        assert int(create_experiment(connection, store.clock, "new")) > int(known["experiment"])


def test_artifacts_behind_a_server_are_not_left_behind(
    mlflow_data: Any, new_store: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(mlflow_data.empty_database, copy)
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="kept by MLflow's server"):
        import_mlflow(new_store(), f"sqlite:///{copy}", progress=quiet)
    (tmp_path / "mlartifacts").mkdir()
    import_mlflow(new_store(), f"sqlite:///{copy}", progress=quiet)
    (tmp_path / "here" / "mlartifacts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidInput, match="Both"):
        import_mlflow(new_store(), f"sqlite:///{copy}", progress=quiet)


def test_a_second_import_adds_nothing_and_one_that_was_cut_off_goes_on(mlflow_data: Any, new_store: Callable) -> None:
    store = new_store()

    class CutOff(Exception):
        pass

    def cut_off(kind: str, done: int, _: int) -> None:
        if (kind, done) == ("runs", 2):
            raise CutOff

    with pytest.raises(CutOff):
        import_mlflow(store, mlflow_data.database, artifacts=mlflow_data.artifacts, progress=cut_off)
    rest = import_mlflow(store, mlflow_data.database, artifacts=mlflow_data.artifacts, progress=quiet)
    assert (rest.present["runs"], rest.new["runs"]) == (2, 1)
    counted = count_rows(store)
    again = import_mlflow(store, mlflow_data.database, artifacts=mlflow_data.artifacts, progress=quiet)
    assert not any(again.new.values())
    assert again.bad == []
    assert count_rows(store) == counted


def test_what_cannot_be_taken_over_is_named_and_the_rest_comes(
    mlflow_data: Any, new_store: Callable, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.db"
    shutil.copy(mlflow_data.folder / "mlflow.db", broken)
    engine, run = sa.create_engine(f"sqlite:///{broken}"), mlflow_data.known["run"]
    with engine.begin() as connection:
        for statement in (
            f"INSERT INTO params (key, value, run_uuid) VALUES ('../bad', 'x', '{run}')",
            f"INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('../b', 1, 1, '{run}', 0, 0)",
            f"UPDATE runs SET artifact_uri = 'file:///etc' WHERE run_uuid = '{mlflow_data.known['child']}'",
            f"UPDATE runs SET experiment_id = 999 WHERE run_uuid = '{mlflow_data.known['deleted']}'",
        ):
            connection.execute(sa.text(statement))
    store = new_store()
    report = import_mlflow(store, f"sqlite:///{broken}", artifacts=mlflow_data.artifacts, progress=quiet)
    assert sorted(row.kind for row in report.bad) == ["artifacts", "metric", "param", "run"]
    assert {row.id for row in report.bad} >= {f"{run}/../bad", f"{run}/../b", mlflow_data.known["deleted"]}
    with store.database.read() as connection:
        assert get_run(connection, run).params[0].key == "empty"
        assert get_run(connection, mlflow_data.known["child"]).status == "FAILED"
    assert not any(b"root:" in store.blobs.read(digest) for digest in store.blobs)


def test_an_older_schema_is_read_as_far_as_it_goes(mlflow_data: Any, new_store: Callable, tmp_path: Path) -> None:
    """MLflow 2.0 had no inputs, no aliases, no logged models, and fewer columns."""
    old = tmp_path / "old.db"
    shutil.copy(mlflow_data.folder / "mlflow.db", old)
    with sa.create_engine(f"sqlite:///{old}").begin() as connection:
        connection.execute(sa.text("PRAGMA foreign_keys = OFF"))
        for table in (
            "logged_model_params", "logged_model_tags", "logged_model_metrics", "logged_models", "input_tags", "inputs",
            "datasets", "registered_model_aliases",
        ):  # fmt: skip
            connection.execute(sa.text(f"DROP TABLE {table}"))
        for table, column in (
            ("runs", "deleted_time"),
            ("experiments", "creation_time"),
            ("model_versions", "storage_location"),
        ):
            connection.execute(sa.text("DROP INDEX IF EXISTS idx_experiments_workspace_creation_time"))
            connection.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    store = new_store()
    report = import_mlflow(store, f"sqlite:///{old}", artifacts=mlflow_data.artifacts, progress=quiet)
    assert report.new["runs"] == 3
    assert [row.id for row in report.bad] == ["delays/1"]  # its files lay with a logged model
    with store.database.read() as connection:
        assert get_version(connection, "delays", "4").source.startswith("runs:/")


@pytest.mark.postgresql
def test_mlflows_database_may_be_postgresql(
    mlflow_data: Any, mlflow_client: Callable, new_store: Callable, postgresql_server: Any, tmp_path: Path
) -> None:
    """MLflow's tables and rows as they are, on PostgreSQL; then back from there through two stores of ours."""
    names = [f"mlflow_{number}_{os.urandom(4).hex()}" for number in range(2)]
    urls = []
    for name in names:
        postgresql_server.execute(f"CREATE DATABASE {name}")
        urls.append(postgresql_server.url_of(name))
    copy_database(f"sqlite:///{mlflow_data.folder / 'mlflow.db'}", urls[0])
    copy_database(f"sqlite:///{mlflow_data.empty_database}", urls[1])
    one, two = new_store(), new_store()
    first = import_mlflow(one, urls[0], artifacts=mlflow_data.artifacts, progress=quiet)
    export_mlflow(one, urls[1], tmp_path / "artifacts", progress=quiet)
    second = import_mlflow(two, urls[1], artifacts=tmp_path / "artifacts", progress=quiet)
    assert (first.bad, second.bad) == ([], [])
    assert first.new == second.new
    final = tmp_path / "final.db"
    shutil.copy(mlflow_data.empty_database, final)
    export_mlflow(two, f"sqlite:///{final}", tmp_path / "artifacts", progress=quiet)
    assert describe(mlflow_client(f"sqlite:///{final}")) == describe(mlflow_client(mlflow_data.uri))
    for name in names:
        postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def copy_database(source: str, target: str) -> None:
    """Copy MLflow's tables with their keys from SQLite to PostgreSQL."""
    tables = reflect(sa.create_engine(source))
    metadata = sa.MetaData()
    engine = sa.create_engine(sa.make_url(target).set(drivername="postgresql+psycopg"))
    for table in tables.values():
        sa.Table(
            table.name,
            metadata,
            *(
                sa.Column(
                    column.name, sa.Double if isinstance(column.type, sa.Float) else column.type,
                    primary_key=column.primary_key, autoincrement=False, nullable=column.nullable,
                    server_default="default" if column.name == "workspace" else None,
                )
                for column in table.columns
            ),
        )  # fmt: skip
    metadata.create_all(engine)
    with sa.create_engine(source).connect() as reading, engine.begin() as writing:
        for table in tables.values():
            rows = [dict(row) for row in reading.execute(sa.select(table)).mappings()]
            if rows:
                writing.execute(sa.insert(metadata.tables[table.name]), rows)
    engine.dispose()


@pytest.mark.skipif(not LONG, reason="kills an import ten times: MAINSPRING_LONG_TESTS=1")
def test_an_import_that_is_killed_again_and_again_ends_complete(
    mlflow_data: Any, new_store: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = tmp_path / "big.db", new_store()
    shutil.copy(mlflow_data.empty_database, source)
    with sqlite3.connect(source) as connection:
        for number in range(1000):
            id = f"{number:032x}"
            connection.execute(
                "INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, artifact_uri, experiment_id) "
                "VALUES (?, 'r', 'FINISHED', ?, 'active', ?, 0)", (id, number, f"mlflow-artifacts:/0/{id}/artifacts"),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO metrics (key, value, timestamp, run_uuid, step) VALUES ('m', ?, ?, ?, ?)",
                [(step * 0.5, step, id, step) for step in range(200)],
            )
            folder = tmp_path / "mlartifacts" / "0" / id / "artifacts"
            folder.mkdir(parents=True)
            (folder / "a.txt").write_text(id)
    command = [sys.executable, "-m", "mainspring", "--project", str(store.settings.project_folder), "import-mlflow"]
    monkeypatch.chdir(tmp_path)
    for attempt in range(10):
        before = count_rows(store)["run"]
        process = subprocess.Popen([*command, f"sqlite:///{source}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while count_rows(store)["run"] < before + 10 * (attempt + 1):
            assert process.poll() is None, process.stderr
            time.sleep(0.005)
        process.kill()
        process.communicate()
    report = import_mlflow(store, f"sqlite:///{source}", progress=quiet)
    assert report.present["runs"] >= 550
    assert report.bad == []
    assert report.new["runs"] + report.present["runs"] == 1000
    rows = count_rows(store)
    assert (rows["run"], rows["metric_history"], rows["artifact_file"]) == (1000, 200_000, 1000)


@pytest.mark.parametrize(
    "uri", ["sqlite:////nowhere/mlflow.db", "/nowhere/mlruns", "mysql://x/y", "sqlite:///{tmp}/other.db"]
)
def test_what_is_no_mlflow_store_is_refused(uri: str, new_store: Callable, tmp_path: Path) -> None:
    with sa.create_engine(f"sqlite:///{tmp_path}/other.db").begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    with pytest.raises((NotFound, InvalidInput)):
        import_mlflow(new_store(), uri.format(tmp=tmp_path), progress=quiet)


def test_a_file_store_is_taken_over_too(
    new_store: Callable, mlflow_client: Callable, fill_mlflow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mlruns"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{root}")
    fill_mlflow(mlflow_client(f"file://{root}"), tmp_path)
    runs = {path: path.read_text() for path in root.glob("*/*/meta.yaml") if len(path.parent.name) == 32}
    broken = next(path for path, text in runs.items() if "lifecycle_stage: deleted" in text)
    broken.write_text("run_id: [")
    store = new_store()
    report = import_mlflow(store, str(root), progress=quiet)
    assert [(row.kind, row.id) for row in report.bad] == [("run", broken.parent.name)]
    assert report.new["runs"] == 2
    with store.database.read() as connection:
        ids = [path.parent.name for path in runs if path != broken]
        run = next(run for run in (get_run(connection, id) for id in ids) if run.name == "one")
        assert len(metric_history(connection, find_run(connection, run.id).number, "loss")) == 1000
        assert read_run_artifact(connection, store.blobs, run.id, "notes/a file.txt") == b"hello"
        assert {param.key: param.value for param in run.params}["lr"] == "0.1"
        assert run.datasets[0].tags == {"mlflow.data.context": "train"}
        versions = list_versions(connection, "delays")
        assert [(v.version, v.aliases) for v in versions] == [("4", ["challenger"]), ("2", ["champion"]), ("1", [])]
        model = get_logged_model(connection, run.models[0].model_id)
        assert (model.params[0].value, model.tags, model.status) == ("3", {"kind": "tree"}, "LOGGED_MODEL_READY")
    assert not any(import_mlflow(store, str(root), progress=quiet).new.values())


@pytest.mark.skipif(not LONG, reason="starts a second mlflow server: MAINSPRING_LONG_TESTS=1")
def test_a_second_real_server_serves_what_was_exported(
    mlflow_data: Any, mlflow_client: Callable, new_mlflow_server: Callable, new_store: Callable, tmp_path: Path
) -> None:
    import mlflow

    store, second = new_store(), new_mlflow_server()
    mlflow.set_tracking_uri(mlflow_data.uri)
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with mlflow.start_run(run_name="sklearn"):
        mlflow.sklearn.log_model(model, name="model", registered_model_name="logistic")
    import_mlflow(store, mlflow_data.database, artifacts=mlflow_data.artifacts, progress=quiet)
    shutil.copy(mlflow_data.empty_database, second.folder / "mlflow.db")
    export_mlflow(store, second.database, second.artifacts, progress=quiet)
    second.start()
    assert describe(mlflow_client(second.url)) == describe(mlflow_client(mlflow_data.uri))
    mlflow.set_tracking_uri(second.url)
    loaded = mlflow.sklearn.load_model("models:/logistic/1")
    assert loaded.predict([[0.0], [1.0]]).tolist() == [0, 1]
    text = mlflow.artifacts.load_text(f"runs:/{mlflow_data.known['run']}/notes/a file.txt")
    assert text == "hello"


@pytest.mark.skipif(not LONG, reason="needs a real mlflow server: MAINSPRING_LONG_TESTS=1")
def test_our_client_logs_to_an_mlflow_server(mlflow_data: Any, mlflow_client: Callable, tmp_path: Path) -> None:
    from mainspring import client

    (tmp_path / "a.txt").write_text("a")
    with client.start_run(experiment="native", name="n", params={"lr": 1}, url=mlflow_data.uri, home=tmp_path) as run:
        for step in range(1500):
            run.log_metric("loss", step * 0.5, step=step)
        run.log_metric("nan", math.nan)
        run.log_artifact(tmp_path / "a.txt", "texts")
    real = mlflow_client(mlflow_data.uri)
    found = real.get_run(run.id)
    assert (found.info.status, found.data.params, found.data.metrics["loss"]) == ("FINISHED", {"lr": "1"}, 749.5)
    assert len(real.get_metric_history(run.id, "loss")) == 1500
    assert [file.path for file in real.list_artifacts(run.id, "texts")] == ["texts/a.txt"]
    with client.Client(mlflow_data.uri) as reader:
        assert reader.run(run.id).metrics["loss"] == 749.5
        assert reader.version("delays", "@champion").version == "2"
        assert [version.version for version in reader.versions("delays")] == ["4", "2", "1"]
        assert reader.model("delays").aliases == {"champion": "2", "challenger": "4"}
    real.delete_run(run.id)
    real.delete_experiment(found.info.experiment_id)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count_rows(store: Any) -> dict[str, int]:
    from mainspring.db.tables import metadata

    with store.database.read() as connection:
        return {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
