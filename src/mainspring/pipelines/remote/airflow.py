"""A pipeline as an Airflow DAG: a file that Airflow or Cloud Composer parses, and runs by our command line."""

from __future__ import annotations

import json
import re
from typing import Any

from mainspring.blobs import digest_of
from mainspring.core import InvalidInput
from mainspring.pipelines.ir import normalise_numbers
from mainspring.pipelines.remote.documents import split_documents

_LONGEST_ID = 200
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
    schedule={schedule!a},
    start_date=datetime(2024, 1, 1, tzinfo=ZoneInfo({time_zone!a})),
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

    Each parameter becomes a param of the DAG, so that it can be changed when a run is triggered by hand. The file is
    plain ASCII; whatever the names and values are, they are values in it.
    """
    dag_id = _slug(name)
    cron, zone = _airflow_cron(schedule or "")
    try:
        json.dumps(parameters, allow_nan=False)
    except ValueError as error:
        raise InvalidInput(f"A parameter cannot be written as JSON: {error}.", hint="Use a finite number.") from error
    return _TEMPLATE.format(
        title=dag_id,
        command=ascii(list(command)),
        parameters=ascii(parameters),
        dag_id=dag_id,
        schedule=cron or None,
        time_zone=zone or time_zone,
        task_id=dag_id,
    )


def _slug(name: str) -> str:
    """Return a name as Airflow takes it; one that has nothing of it is told apart by its digest."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:_LONGEST_ID]
    return slug or f"pipeline-{digest_of(name.encode(errors='surrogatepass')).removeprefix('sha256:')[:12]}"


def _airflow_cron(text: str) -> tuple[str, str]:
    """Return an expression as Airflow reads it, and the zone written in front of it; raise `InvalidInput` for neither.

    Airflow has the seconds last, where KFP has them first; a ``?`` is a ``*``.
    """
    words = text.split()
    zone = words.pop(0).partition("=")[2] if words and words[0].startswith(("TZ=", "CRON_TZ=")) else ""
    if words[:1] == ["@every"]:
        raise InvalidInput(f"Airflow has no schedule like {text!r}.", hint="Write it as a cron expression.")
    if len(words) == 6:
        seconds, *words = words
        words += [] if seconds == "0" else [seconds]
    return " ".join("*" if word == "?" else word for word in words), zone


def pipeline_parameters(ir: bytes) -> dict[str, Any]:
    """Return the parameters of a compiled pipeline with their defaults; None for one without."""
    root = split_documents(ir).pipeline.get("root") or {}
    declared = (root.get("inputDefinitions") or {}).get("parameters") or {}
    return {name: normalise_numbers(found.get("defaultValue")) for name, found in declared.items()}
