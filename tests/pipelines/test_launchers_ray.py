"""Tasks on a real Ray node of this machine; a lost node is for the long tests."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path

import pytest

from mainspring.core import Refused
from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers import TaskLaunch
from mainspring.pipelines.launchers.ray import RayLauncher, ray_options
from mainspring.pipelines.launchers.ray_node import pack, unpack

HEAD = "from kfp import dsl\nfrom typing import *\n"
LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"


def function(body):
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return PythonComponent(source=f"{HEAD}def f(path: str = '') -> str:\n{lines}\n", function="f")


def prepare(folder, component, path=""):
    (folder / "work").mkdir(parents=True)
    (folder / "outputs").mkdir()
    output = {"parameters": {"Output": {"outputFile": str(folder / "out")}}, "artifacts": {}}
    output["outputFile"] = str(folder / "outputs" / "executor_output.json")
    document = {"inputs": {"parameterValues": {"path": path}, "artifacts": {}}, "outputs": output}
    (folder / "executor_input.json").write_text(json.dumps(document))
    (folder / "source.py").write_text(component.source)
    return TaskLaunch(
        key=folder.name, component=component, source=str(folder / "source.py"), folder=str(folder / "work"),
        executor_input=str(folder / "executor_input.json"), log=str(folder / "log.txt"),
        error=str(folder / "error.txt"),
        environment={"COLOUR": "green"},
    )  # fmt: skip


def output_of(folder):
    return json.loads((folder / "outputs" / "executor_output.json").read_bytes())["parameterValues"]["Output"]


def finish(launcher, count=1, timeout=60):
    found = []
    while len(found) < count:
        ended = launcher.wait(timeout)
        assert ended, "nothing ended in time"
        found += ended
    return {item.key: item for item in found}


@pytest.fixture(scope="module")
def launcher():
    if not LONG:
        pytest.skip("a Ray cluster takes ten seconds to start: set MAINSPRING_LONG_TESTS=1")
    launcher = RayLauncher()
    yield launcher
    launcher.close()


def test_resources_become_rays_options():
    assert ray_options(Resources()) == {"num_cpus": 1.0, "num_gpus": 0.0, "resources": {}}
    assert ray_options(Resources(cpu=0.5, memory_bytes=10, accelerator_type="nvidia-t4", accelerator_count=2)) == {
        "num_cpus": 0.5, "num_gpus": 2.0, "resources": {}, "memory": 10,
    }  # fmt: skip
    tpus = Resources(accelerator_type="cloud-tpus.google.com/v3", accelerator_count=8)
    assert ray_options(tpus)["resources"] == {"TPU": 8.0}


def test_a_folder_travels_whole_and_paths_in_its_documents_move(tmp_path):
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    prepare(origin, function("return ''"))
    unpack(pack(origin), copy, moved=(str(origin), str(copy)))
    document = json.loads((copy / "executor_input.json").read_text())
    assert document["outputs"]["outputFile"] == str(copy / "outputs" / "executor_output.json")
    assert str(origin) in (origin / "executor_input.json").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("/tmp/evil", tarfile.REGTYPE, ""),
        ("a", tarfile.SYMTYPE, "../.."),
        ("a", tarfile.SYMTYPE, "/etc"),
        ("a", tarfile.LNKTYPE, "../passwd"),
        ("a", tarfile.FIFOTYPE, ""),
    ],
)
def test_what_leads_outside_of_a_folder_that_travels_is_refused(tmp_path, name, kind, target):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    with pytest.raises(Refused, match="leads outside"):
        unpack(packed.getvalue(), tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


def test_links_inside_of_a_folder_travel_with_it(tmp_path):
    (tmp_path / "origin" / "deep").mkdir(parents=True)
    (tmp_path / "origin" / "file").write_text("x")
    (tmp_path / "origin" / "deep" / "link").symlink_to("../file")
    os.link(tmp_path / "origin" / "file", tmp_path / "origin" / "twin")
    unpack(pack(tmp_path / "origin"), tmp_path / "copy")
    assert (tmp_path / "copy" / "deep" / "link").read_text() == (tmp_path / "copy" / "twin").read_text() == "x"


def test_tasks_run_on_ray_side_by_side_and_failures_come_back(launcher, tmp_path):
    for number in range(3):
        launcher.launch(
            prepare(tmp_path / f"t{number}", function(f"import os\nreturn os.environ['COLOUR'] + '{number}'"))
        )
    launcher.launch(prepare(tmp_path / "bad", function("raise ValueError('no such luck')")))
    ended = finish(launcher, 4)
    assert [output_of(tmp_path / f"t{number}") for number in range(3)] == ["green0", "green1", "green2"]
    assert ended["bad"].error == "ValueError: no such luck"
    assert not ended["bad"].lost
    assert ended["t0"].usage.max_rss_bytes > 0


def test_a_folder_that_was_shipped_comes_back_with_its_outputs(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "_ships", True)
    body = "import os\nopen(os.path.join(os.getcwd(), 'kept.txt'), 'w').write('x')\nprint('here')\nreturn os.getcwd()"
    launcher.launch(prepare(tmp_path / "far", function(body)))
    assert finish(launcher)["far"].error == ""
    assert output_of(tmp_path / "far") == str(tmp_path / "far" / "work"), "paths in the output are the engine's again"
    assert (tmp_path / "far" / "work" / "kept.txt").read_text() == "x"
    assert "here" in (tmp_path / "far" / "log.txt").read_text()


def test_cancel_kills_the_task_and_no_other(launcher, tmp_path):
    note = "import os, time\nopen(path, 'w').write(str(os.getpid()))\n"
    launcher.launch(prepare(tmp_path / "stuck", function(note + "time.sleep(300)"), path=str(tmp_path / "pid")))
    while not (tmp_path / "pid").is_file():
        assert launcher.wait(0.05) == []
    launcher.launch(prepare(tmp_path / "fine", function("return 'done'")))
    launcher.cancel("stuck")
    ended = finish(launcher, 2)
    assert "cancelled" in ended["stuck"].error
    assert ended["fine"].error == ""
    pid = int((tmp_path / "pid").read_text())
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            break
        launcher.wait(0.05)
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_what_the_cluster_cannot_hold_is_refused(launcher):
    assert "no node of the Ray cluster has CPU 4096" in launcher.refuse(function("return ''"), Resources(cpu=4096))
    assert "GPU" in launcher.refuse(function("return ''"), Resources(accelerator_count=64))
    assert "alpine" in launcher.refuse(ContainerComponent(image="alpine"))
    assert launcher.refuse(function("return ''")) == ""


LOSS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_launchers_ray import finish, function, output_of, prepare
from ray.cluster_utils import Cluster
from mainspring.pipelines.launchers.ray import RayLauncher
folder = Path(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
first = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
launcher = RayLauncher(address=cluster.address)
body = "import os, time\\nopen(path, 'a').write('x')\\ntime.sleep(3)\\nreturn 'done'"
launcher.launch(prepare(folder / "t", function(body), path=str(folder / "attempts")))
while not (folder / "attempts").is_file():
    time.sleep(0.1)
cluster.remove_node(first, allow_graceful=False)
cluster.add_node(num_cpus=1)
ended = finish(launcher, timeout=100)
assert ended["t"].error == "", ended
assert output_of(folder / "t") == "done"
assert (folder / "attempts").read_text() == "xx"
launcher.close()
cluster.shutdown()
"""


@pytest.mark.skipif(not LONG, reason="takes half a minute: set MAINSPRING_LONG_TESTS=1")
def test_a_task_on_a_lost_node_runs_again_on_another(tmp_path):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", LOSS, str(Path(__file__).parent), str(tmp_path)], timeout=150, check=False
    )
    assert done.returncode == 0
