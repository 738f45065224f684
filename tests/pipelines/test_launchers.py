"""Tasks of every kind, launched for real on this machine."""

from __future__ import annotations

import json
import mmap
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import msgspec
import psutil
import pytest

from mainspring.pipelines.component import ContainerComponent, PythonComponent
from mainspring.pipelines.launchers import LocalLauncher, ProcessLauncher, TaskLaunch, VenvLauncher

HEAD = "from kfp import dsl\nfrom typing import *\n"


class Desk:
    """Prepares the folder of a task, launches it and reads what it left."""

    def __init__(self, launcher, folder):
        self.launcher, self.folder, self.count = launcher, folder, 0

    def prepare(self, component, parameters=None, outputs=("Output",), **changes):
        self.count += 1
        root = self.folder / f"task-{self.count}"
        (root / "work").mkdir(parents=True)
        (root / "outputs").mkdir()
        document = {
            "inputs": {"parameterValues": parameters or {}, "artifacts": {}},
            "outputs": {
                "parameters": {name: {"outputFile": str(root / name)} for name in outputs},
                "artifacts": {},
                "outputFile": str(root / "outputs" / "executor_output.json"),
            },
        }
        (root / "input.json").write_text(json.dumps(document))
        if isinstance(component, PythonComponent):
            (root / "source.py").write_text(component.source)
        task = TaskLaunch(
            key=f"t{self.count}", component=component, source=str(root / "source.py"),
            executor_input=str(root / "input.json"), folder=str(root / "work"), log=str(root / "log.txt"),
            error=str(root / "error.txt"), environment={},
        )  # fmt: skip
        return msgspec.structs.replace(task, **changes)

    def launch(self, component, parameters=None, **changes):
        task = self.prepare(component, parameters, **changes)
        self.launcher.launch(task)
        return task

    def finish(self, timeout=60.0):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := self.launcher.wait(1.0):
                return found[0]
        raise AssertionError("nothing ended")

    def run(self, component, parameters=None, **changes):
        task = self.launch(component, parameters, **changes)
        return task, self.finish()


def output_of(task):
    return json.loads((Path(task.folder).parent / "outputs" / "executor_output.json").read_bytes())["parameterValues"][
        "Output"
    ]


def function(body, **changes):
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return PythonComponent(source=f"{HEAD}def f(path: str = '') -> str:\n{lines}\n", function="f", **changes)


def wait_until(holds, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def process_launcher(tmp_path_factory):
    """A launcher whose zygote is warm: before it is, tasks are sent only while somebody waits."""
    launcher = ProcessLauncher()
    Desk(launcher, tmp_path_factory.mktemp("warm")).run(function("return ''"))
    yield launcher
    launcher.close()


@pytest.fixture
def desk(process_launcher, tmp_path):
    yield Desk(process_launcher, tmp_path)
    process_launcher.cancel_all()


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A distribution that is installed nowhere, as a wheel on disk: environments are built without a network."""
    path = tmp_path_factory.mktemp("wheels") / "tinydist-1.2-py3-none-any.whl"
    files = {
        "tinydist.py": "VERSION = '1.2'\n",
        "tinydist-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinydist\nVersion: 1.2\n",
        "tinydist-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + "tinydist-1.2.dist-info/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, "tinydist-1.2.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def test_a_function_with_helpers_runs(desk, lifted):
    task, ended = desk.run(lifted["helped"], {"number": 4})
    assert (ended.status, ended.error) == (0, "")
    assert output_of(task) == 5


def test_embedded_files_and_folders_are_there(desk, lifted):
    assert output_of(desk.run(lifted["folder_inside"])[0]) == "hello7"
    assert output_of(desk.run(lifted["file_inside"])[0]) == "hello"


def test_a_notebook_runs_in_this_interpreter_with_its_parameters_injected(desk, lifted, tmp_path):
    target = tmp_path / "said"
    task, ended = desk.run(lifted["notebook"], {"number": 41, "path": str(target)}, outputs=())
    assert ended.error == "", Path(task.log).read_text()
    assert target.read_text() == f"41|{sys.executable}"


def test_resource_use_is_measured_with_what_the_task_started(desk):
    body = "import subprocess, sys\nhold = bytearray(80_000_000)\nhold[::4096] = b'x' * len(hold[::4096])\n"
    body += "subprocess.run([sys.executable, '-c', 'sum(range(6_000_000))'], check=True)\nreturn ''"
    _, ended = desk.run(function(body))
    assert ended.error == ""
    assert ended.usage.max_rss_bytes > 80_000_000
    assert 0.05 < ended.usage.cpu_seconds < 20


def test_the_error_is_the_exception_in_one_line(desk):
    _, ended = desk.run(function("raise ValueError('no such luck')"))
    assert (ended.status, ended.error, ended.lost) == (1, "ValueError: no such luck", False)


def test_a_task_that_leaves_with_a_status_says_so(desk):
    assert desk.run(function("import sys; sys.exit(3)"))[1].status == 3
    assert "SIGSEGV" in desk.run(function("import os; os.kill(os.getpid(), 11)"))[1].error


def test_a_step_that_names_pandas_gets_a_zygote_that_holds_it(desk):
    body = "import sys\nloaded = 'pandas' in sys.modules\nimport pandas\nreturn str(loaded)"
    assert output_of(desk.run(function(body))[0]) == "True"
    assert output_of(desk.run(function("import sys\nreturn str('pandas' in sys.modules)"))[0]) == "False"


STRAYS = """
import os, subprocess, sys, time
plain = subprocess.Popen(["sleep", "300"])
session = subprocess.Popen(["sleep", "300"], start_new_session=True)
double = os.fork()
if double == 0:
    os.setsid()
    inner = os.fork()
    if inner == 0:
        time.sleep(300)
    open(path + ".inner", "w").write(str(inner))
    os._exit(0)
os.waitpid(double, 0)
pids = [os.getpid(), plain.pid, session.pid, int(open(path + ".inner").read())]
open(path + ".part", "w").write(" ".join(map(str, pids)))
os.rename(path + ".part", path)
"""


def strays(path):
    wait_until(path.is_file)
    return [int(pid) for pid in path.read_text().split()]


def test_what_a_task_leaves_behind_is_killed_when_it_ends(desk, tmp_path):
    _, ended = desk.run(function(STRAYS + "return ''"), {"path": str(tmp_path / "pids")})
    assert ended.error == ""
    assert not [pid for pid in strays(tmp_path / "pids") if is_alive(pid)]


def test_cancel_kills_one_task_with_all_it_started_and_no_other(desk, tmp_path):
    one = desk.launch(function(STRAYS + "time.sleep(300)"), {"path": str(tmp_path / "one")})
    desk.launch(function(STRAYS + "time.sleep(300)"), {"path": str(tmp_path / "two")})
    first, second = strays(tmp_path / "one"), strays(tmp_path / "two")
    desk.launcher.cancel(one.key)
    ended = desk.finish()
    assert (ended.key, ended.status) == (one.key, -signal.SIGKILL)
    assert not [pid for pid in first if is_alive(pid)]
    assert all(is_alive(pid) for pid in second)
    desk.launcher.cancel_all()
    assert not [pid for pid in second if is_alive(pid)]


def test_a_task_that_waits_for_its_zygote_can_be_cancelled(tmp_path):
    desk = Desk(ProcessLauncher(), tmp_path)
    task = desk.launch(function("return ''"))
    desk.launcher.cancel(task.key)
    assert desk.finish().key == task.key
    desk.launcher.close()


ENGINE = """
import sys, msgspec
from mainspring.pipelines.launchers import ProcessLauncher, TaskLaunch
launcher = ProcessLauncher()
launcher.launch(msgspec.json.decode(sys.argv[1], type=TaskLaunch))
launcher.wait(None)
"""


@pytest.mark.parametrize("also_the_zygote", [False, True])
def test_no_task_survives_its_engine(tmp_path, also_the_zygote):
    note = "import os, time\nopen(path + '.part', 'w').write(str(os.getpid()))\nos.rename(path + '.part', path)\n"
    component = function((note if also_the_zygote else STRAYS) + "time.sleep(300)")
    task = Desk(None, tmp_path).prepare(component, {"path": str(tmp_path / "pids")})
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, msgspec.json.encode(task).decode()], start_new_session=True
    )
    pids = strays(tmp_path / "pids")
    zygotes = psutil.Process(engine.pid).children()
    if also_the_zygote:
        for zygote in zygotes:
            zygote.kill()
    engine.kill()
    engine.wait()
    wait_until(lambda: not [pid for pid in (*pids, *(zygote.pid for zygote in zygotes)) if is_alive(pid)])


def test_a_component_that_wants_an_environment_gets_a_clean_one(environments, tmp_path, lifted):
    desk = Desk(VenvLauncher(folder=environments), tmp_path)
    task, ended = desk.run(lifted["apart"], {"number": 3})
    assert ended.error == "", Path(task.log).read_text()
    number, prefix = output_of(task).split("|")
    assert number == "3"
    assert Path(prefix).parent == environments
    body = "import importlib.util\nreturn str(importlib.util.find_spec('numpy'))"
    assert output_of(desk.run(function(body, uses_venv=True))[0]) == "None"
    desk.launcher.close()


def test_an_environment_holds_the_requirements_and_is_built_once(environments, tmp_path, wheel):
    component = function("import tinydist\nreturn tinydist.VERSION", requirements=(f"tinydist @ file://{wheel}",))
    first = Desk(VenvLauncher(folder=environments), tmp_path / "first")
    task, ended = first.run(component)
    assert ended.error == "", ended.error
    assert output_of(task) == "1.2"
    first.launcher.close()
    [marker] = [path for path in environments.glob("*/built.json") if "tinydist" in path.read_text()]
    built_at = marker.stat().st_mtime_ns
    second = Desk(VenvLauncher(folder=environments), tmp_path / "second")
    assert output_of(second.run(component)[0]) == "1.2"
    second.launcher.close()
    assert marker.stat().st_mtime_ns == built_at


def test_two_engines_build_an_environment_once(tmp_path, wheel):
    component = function("import tinydist\nreturn tinydist.VERSION", requirements=(f"tinydist @ file://{wheel}",))
    desks = [Desk(VenvLauncher(folder=tmp_path / "environments"), tmp_path / name) for name in ("one", "two")]
    tasks = [desk.launch(component) for desk in desks]
    assert [desk.finish().error for desk in desks] == ["", ""]
    assert [output_of(task) for task in tasks] == ["1.2", "1.2"]
    assert len(list((tmp_path / "environments").glob("*/built.json"))) == 1
    for desk in desks:
        desk.launcher.close()


def test_a_half_built_environment_is_never_used(tmp_path, wheel):
    component = function("import tinydist\nreturn tinydist.VERSION", requirements=(f"tinydist @ file://{wheel}",))
    folder = tmp_path / "environments"
    first = Desk(VenvLauncher(folder=folder), tmp_path / "first")
    first.run(component)
    first.launcher.close()
    [marker] = folder.glob("*/built.json")
    marker.unlink()
    next(marker.parent.glob("lib/*/site-packages/tinydist.py")).write_text("VERSION = 'half'\n")
    second = Desk(VenvLauncher(folder=folder), tmp_path / "second")
    assert output_of(second.run(component)[0]) == "1.2"
    second.launcher.close()


def test_requirements_that_cannot_be_met_fail_the_task_with_the_reason(tmp_path):
    component = function("return ''", requirements=(f"nowhere @ file://{tmp_path}/nowhere-1-py3-none-any.whl",))
    desk = Desk(VenvLauncher(folder=tmp_path / "environments"), tmp_path)
    _, ended = desk.run(component)
    desk.launcher.close()
    assert not ended.lost
    assert "nowhere @" in ended.error
    assert "could not be built" in ended.error


def test_the_local_launcher_takes_the_quickest_way_that_fits(environments, tmp_path, wheel):
    launcher = LocalLauncher(home=tmp_path)
    desk = Desk(launcher, tmp_path)
    prefix = "import sys\nreturn sys.prefix"
    assert output_of(desk.run(function(prefix, requirements=("msgspec",)))[0]) == sys.prefix
    apart = output_of(desk.run(function(prefix, requirements=(f"tinydist @ file://{wheel}",)))[0])
    assert Path(apart).parent == tmp_path / "environments"
    launcher.close()


def test_what_a_launcher_cannot_run_is_refused_with_the_reason(tmp_path):
    process = ProcessLauncher()
    assert "no-such-dist (not installed)" in process.refuse(function("return ''", requirements=("no-such-dist",)))
    assert "venv" in process.refuse(function("return ''", uses_venv=True))
    assert "alpine:3" in process.refuse(ContainerComponent(image="alpine:3", command=("true",)))
    assert process.refuse(function("return ''", requirements=("msgspec>=0.18",))) == ""
    assert "alpine:3" in VenvLauncher(folder=tmp_path).refuse(ContainerComponent(image="alpine:3"))


def large_pages(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))


def gathers_pages():
    """Say whether this kernel makes large pages when it is asked to (MADV_COLLAPSE, Linux 6.1)."""
    with mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(bytes(8 << 20))
        try:
            memory.madvise(25)
        except OSError:
            return False
    return True


@pytest.mark.skipif(not gathers_pages(), reason="this kernel gathers no memory into large pages")
def test_a_large_zygote_that_forks_often_gathers_its_memory_and_its_tasks_still_work(tmp_path, monkeypatch):
    (tmp_path / "roomy.py").write_text("THINGS = [object() for _ in range(3_000_000)]\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launcher = ProcessLauncher(preload=("roomy",))
    desk = Desk(launcher, tmp_path)
    component = function("import roomy\nreturn str(len(roomy.THINGS))")
    known = {child.pid for child in psutil.Process().children()}
    assert {output_of(desk.run(component)[0]) for _ in range(20)} == {"3000000"}
    (zygote,) = [child for child in psutil.Process().children() if child.pid not in known]
    wait_until(lambda: large_pages(zygote.pid) > 16_000)
    assert output_of(desk.run(component)[0]) == "3000000"
    launcher.close()
