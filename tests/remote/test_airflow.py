"""A pipeline as an Airflow DAG, parsed and run by a real Airflow in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainspring.core import InvalidInput
from mainspring.pipelines.remote import airflow_dag, pipeline_parameters

ENVIRONMENT = os.environ.get("MAINSPRING_AIRFLOW", "")
"""The virtual environment that has Airflow; it cannot share ours."""
AIRFLOW = Path(ENVIRONMENT) / "bin" / "airflow"
LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"
PIPELINE = """
from kfp import dsl


@dsl.component
def add(a: int, b: int, path: str) -> int:
    open(path, "a").write(f"{a}+{b}")
    return a + b


@dsl.pipeline(name="adder")
def adder(path: str, a: int = 1):
    add(a=a, b=2, path=path)
"""


def test_the_file_is_python_and_holds_what_it_was_given():
    text = airflow_dag(name="My adder!", command=("mainspring", "run", "it's.py"), parameters={"a": 1, "b": None})
    compile(text, "dag.py", "exec")
    assert "COMMAND = ['mainspring', 'run', \"it's.py\"]" in text
    assert "PARAMETERS = {'a': 1, 'b': None}" in text
    assert "dag_id='My-adder'" in text
    assert "schedule=None" in text


def test_a_name_or_a_value_cannot_become_code():
    text = airflow_dag(name='x"""\nimport os', command=("a",), parameters={"a": "'''\"\"\"\n{x}"}, schedule="0 6 * * *")
    compile(text, "dag.py", "exec")
    assert '"""x-import-os:' in text
    assert "schedule='0 6 * * *'" in text
    with pytest.raises(InvalidInput):
        airflow_dag(name="???", command=("a",), parameters={})


def test_the_parameters_of_a_pipeline_are_params_with_their_defaults(remote_files):
    assert pipeline_parameters(remote_files[0].encode()) == {"number": 1, "rates": None}


def test_a_real_airflow_parses_the_dag_and_runs_it(tmp_path):
    if not LONG or not ENVIRONMENT or not AIRFLOW.is_file():
        pytest.skip("needs MAINSPRING_LONG_TESTS=1, and MAINSPRING_AIRFLOW=DIR of an environment with apache-airflow")
    (tmp_path / "p.py").write_text(PIPELINE)
    (tmp_path / "dags").mkdir()
    dag = tmp_path / "dags" / "adder.py"
    written = tmp_path / "written"
    ours = [sys.executable, "-m", "mainspring", "--project", str(tmp_path)]
    command = [*ours, "run", f"{tmp_path}/p.py:adder", "-p", f"path={written}", "--export", "airflow", str(dag)]
    subprocess.run(command, check=True)
    environment = {
        **os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": str(dag.parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "PATH": f"{AIRFLOW.parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def airflow(*words):
        done = subprocess.run(
            [str(AIRFLOW), *words], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    airflow("db", "migrate")
    airflow("dags", "reserialize")
    assert "adder" in airflow("dags", "list")
    assert "adder" not in airflow("dags", "list-import-errors")
    airflow("dags", "test", "adder", "--conf", '{"a": 40}')
    assert written.read_text() == "40+2"
