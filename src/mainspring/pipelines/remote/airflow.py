"""A pipeline as an Airflow DAG: a file that Airflow or Cloud Composer parses, and runs by our command line."""

from __future__ import annotations

import re
from typing import Any

from mainspring.core import InvalidInput
from mainspring.pipelines.ir import normalise_numbers
from mainspring.pipelines.remote.documents import split_documents

_TEMPLATE = '''"""{title}: started by Airflow, run by mainspring. Written by: mainspring run --export airflow"""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from zoneinfo import ZoneInfo

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:  # before Airflow 3
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context

COMMAND = {command}
PARAMETERS = {parameters}


@dag(
    dag_id={dag_id!r},
    schedule={schedule!r},
    start_date=datetime(2024, 1, 1, tzinfo=ZoneInfo({time_zone!r})),
    catchup=False,
    max_active_runs=1,
    params=PARAMETERS,
    tags=["mainspring"],
)
def pipeline():
    @task(task_id={task_id!r}, retries=0)
    def run():
        given = get_current_context()["params"]
        named = [name for name in PARAMETERS if given[name] is not None]
        arguments = [word for name in named for word in ("-p", name + "=" + json.dumps(given[name]))]
        done = subprocess.run([*COMMAND, *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout)
        result = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {{}}
        if done.returncode != 0:
            raise RuntimeError(result.get("error") or "mainspring run left with status " + str(done.returncode))
        return {{"run_id": result.get("run_id"), "outputs": result.get("outputs")}}

    run()


pipeline()
'''


def airflow_dag(
    *,
    name: str,
    command: tuple[str, ...],
    parameters: dict[str, Any],
    schedule: str | None = None,
    time_zone: str = "UTC",
) -> str:
    """Return the text of a DAG file with one task that runs ``command`` (``mainspring run FILE``) with the parameters.

    Each parameter becomes a param of the DAG, so that it can be changed when a run is triggered by hand.
    """
    dag_id = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    if not dag_id:
        raise InvalidInput(f"{name!r} cannot be the name of a DAG.", hint="Use letters, digits, . _ and -.")
    return _TEMPLATE.format(
        title=dag_id,
        command=repr(list(command)),
        parameters=repr(parameters),
        dag_id=dag_id,
        schedule=schedule,
        time_zone=time_zone,
        task_id=dag_id,
    )


def pipeline_parameters(ir: bytes) -> dict[str, Any]:
    """Return the parameters of a compiled pipeline with their defaults; None for one without."""
    root = split_documents(ir).pipeline.get("root") or {}
    declared = (root.get("inputDefinitions") or {}).get("parameters") or {}
    return {name: normalise_numbers(found.get("defaultValue")) for name, found in declared.items()}
