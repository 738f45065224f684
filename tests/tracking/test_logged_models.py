from __future__ import annotations

import pytest

from mainspring import tracking
from mainspring.core import FixedClock, InvalidInput, NotFound
from mainspring.db import Database
from mainspring.tracking import Metric, Param


def test_logged_model_goes_from_pending_to_ready(database: Database, clock: FixedClock, experiment: str) -> None:
    with database.write() as connection:
        run = tracking.create_run(connection, clock, experiment)
        made = tracking.create_logged_model(
            connection, clock, experiment, name="model", source_run_id=run.id, params=[Param("a", "1")], tags={"t": "v"}
        )
        clock.advance(5)
        ready = tracking.finalize_logged_model(connection, clock, made.id, "LOGGED_MODEL_READY")
    assert made.status == "LOGGED_MODEL_PENDING"
    assert (ready.status, ready.updated_at, ready.tags) == ("LOGGED_MODEL_READY", made.created_at + 5, {"t": "v"})
    assert ready.artifact_uri == f"mlflow-artifacts:/{experiment}/models/{made.id}/artifacts"


def test_search_finds_by_name_metric_and_param(database: Database, clock: FixedClock, experiment: str) -> None:
    with database.write() as connection:
        run = tracking.create_run(connection, clock, experiment)
        ids = []
        for name, value in (("a", 0.1), ("b", 0.9)):
            clock.advance(1)
            ids.append(tracking.create_logged_model(connection, clock, experiment, name=name).id)
            metric = Metric(
                key="loss", value=value, timestamp=1, model_id=ids[-1], dataset_name=f"data-{name}", dataset_digest="d"
            )
            tracking.log_model_metrics(connection, run.id, [metric])

        def search(filter: str, *order: str, on: str = "", digest: str = "") -> list[str]:
            page = tracking.search_logged_models(
                connection, [experiment], filter=filter,
                order_by=[tracking.ModelOrder(field=one.split()[0], ascends=one.endswith("asc")) for one in order],
                datasets=[tracking.DatasetName(on, digest)] if on else [],
            )  # fmt: skip
            return [model.name for model in page.models]

        assert search("") == ["b", "a"]
        assert search("name = 'a'") == ["a"]
        assert search("metrics.loss > 0.5") == ["b"]
        assert search("", "metrics.loss asc") == ["a", "b"]
        assert search("", "name desc") == ["b", "a"]
        assert search("", on="data-a") == search("", on="data-a", digest="d") == ["a"]
        assert search("", on="data-a", digest="other") == search("metrics.loss > 0.5", on="data-a") == []
        for field in ("params.x", "nothing"):
            with pytest.raises(InvalidInput, match="Invalid order by field name"):
                search("", field)
        with pytest.raises(InvalidInput):
            search("bogus = 'a'")


def test_deleted_logged_model_is_gone(database: Database, clock: FixedClock, experiment: str) -> None:
    with database.write() as connection:
        model = tracking.create_logged_model(connection, clock, experiment)
        tracking.delete_logged_model(connection, clock, model.id)
        with pytest.raises(NotFound):
            tracking.get_logged_model(connection, model.id)
        assert tracking.get_logged_model(connection, model.id, allow_deleted=True).lifecycle_stage == "deleted"
