"""A pipeline as an Airflow DAG, parsed and run by a real Airflow in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


class Airflow(ModuleType):
    """What a DAG file asks of Airflow, kept."""

    def __init__(self, params=None):
        super().__init__("airflow.sdk")
        self.given, self.task_id, self.params = {}, "", params

    def dag(self, **given):
        self.given = given
        return lambda function: function

    def task(self, *, task_id, retries):
        self.task_id = task_id

        def decorate(function):
            self.run = function
            return lambda: None

        return decorate

    def get_current_context(self):
        return {"params": self.params}


def loaded(monkeypatch, params=None, **given):
    text = airflow_dag(**{"name": "p", "command": ("true",), "parameters": {}, **given})
    assert text.isascii()
    airflow = Airflow(params)
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", airflow)
    space = {"__name__": "dag"}
    exec(compile(text, "dag.py", "exec"), space)
    return airflow, space


ODD = [
    "'", '"', "\'\"\"\"\'\'\'", "\n__import__('os').abort()\n", "\\", "\\'", "%s %(x)d %%", "{{ ti.xcom_pull() }}",
    "{% raw %}{x}{{}}",
    "\x00\r\u2028\u202e", "模型 ✓ \U0001f600", "\udcff", "", "$(reboot) `id` ; #",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_and_values_are_values_in_a_file_that_can_be_read(monkeypatch, odd):
    parameters = {odd or "x": odd, "deep": [{odd: [1, 2.5, None, True]}]}
    airflow, space = loaded(monkeypatch, name=odd, command=("a", odd), parameters=parameters, time_zone="UTC")
    assert space["COMMAND"] == ["a", odd]
    assert space["PARAMETERS"] == airflow.given["params"] == parameters
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", airflow.given["dag_id"])
    assert airflow.task_id == airflow.given["dag_id"]


def test_values_reach_the_command_as_they_are_given(monkeypatch, tmp_path):
    script = tmp_path / "echo.py"
    script.write_text("import json, sys\nprint(json.dumps({'run_id': 'r', 'outputs': sys.argv[1:]}))")
    odd = "{{ x }}'\"\n% $(id)"
    airflow, _ = loaded(
        monkeypatch, {"a": odd, "none": None}, command=(sys.executable, str(script)),
        parameters={"a": "x", "none": None},
    )  # fmt: skip
    assert airflow.run() == {"run_id": "r", "outputs": ["-p", "a=" + json.dumps(odd), "--json"]}


def test_names_without_a_letter_stay_apart(monkeypatch):
    ids = {loaded(monkeypatch, name=name)[0].given["dag_id"] for name in ("模型", "数据", "???", "x" * 900)}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("schedule", "written", "zone"),
    [
        (None, None, "UTC"),
        ("0 6 * * *", "0 6 * * *", "UTC"),
        ("0 0 9 ? * 2-6", "0 9 * * 2-6", "UTC"),
        ("30 0 9 * * *", "0 9 * * * 30", "UTC"),
        ("TZ=Europe/Berlin 0 6 * * *", "0 6 * * *", "Europe/Berlin"),
        ("@daily", "@daily", "UTC"),
    ],
)
def test_a_schedule_is_written_as_airflow_reads_it(monkeypatch, schedule, written, zone):
    airflow, _ = loaded(monkeypatch, schedule=schedule)
    assert airflow.given["schedule"] == written
    assert str(airflow.given["start_date"].tzinfo) == zone


def test_what_airflow_cannot_have_is_refused():
    with pytest.raises(InvalidInput, match="no schedule like '@every 1h'"):
        airflow_dag(name="x", command=("a",), parameters={}, schedule="@every 1h")
    with pytest.raises(InvalidInput, match="JSON"):
        airflow_dag(name="x", command=("a",), parameters={"a": float("nan")})


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
