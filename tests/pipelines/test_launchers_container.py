"""The container launcher: command lines byte for byte, refusals, and runs by a program that stands for docker."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers import ContainerLauncher, TaskLaunch, container_command
from mainspring.pipelines.launchers.container import container_name, find_engine

SHELL = ContainerComponent(image="alpine:3", command=("sh", "-c", "echo $0"), args=("it's", "{}"))
PYTHON = PythonComponent(
    source="def f(): ...", function="f", image="python:3.11", requirements=("numpy>=1,<3", "six"),
    index_urls=("https://one/simple", "https://two/simple"),
)  # fmt: skip


def launch_of(component, root=Path("/h/run/a task/attempt-1"), **changes):
    task = TaskLaunch(
        key="train", component=component, source=str(root / "source.py"), executor_input=str(root / "input.json"),
        folder=str(root / "work"), log=str(root / "log.txt"), error=str(root / "error.txt"),
        environment={"B": "2", "A": "x y"},
    )  # fmt: skip
    return msgspec.structs.replace(task, **changes)


def test_the_command_line_of_a_container():
    task = launch_of(SHELL, resources=Resources(cpu=0.5, memory_bytes=2_000_000_000, accelerator_count=1))
    assert container_command("/bin/docker", task, user="10:20", kfp_version="2.16.1") == (
        "/bin/docker", "run", "--rm", "--init", "--name", container_name(task), "--label", "mainspring.task=train",
        "--user", "10:20", "--network", "host",
        "--volume", "/h/run/a task/attempt-1:/h/run/a task/attempt-1", "--workdir", "/h/run/a task/attempt-1/work",
        "--cpus", "0.5", "--memory", "2000000000", "--gpus", "1",
        "--env", "A=x y", "--env", "B=2", "--env", "HOME=/h/run/a task/attempt-1/work",
        "--entrypoint", "sh", "alpine:3", "-c", "echo $0", "it's", "{}",
    )  # fmt: skip


def test_an_image_without_a_command_keeps_its_own():
    task = launch_of(ContainerComponent(image="trainer:1", args=("--epochs", "3")), environment={})
    command = container_command("podman", task, user="0:0", kfp_version="2")
    assert command[-3:] == ("trainer:1", "--epochs", "3")
    assert "--entrypoint" not in command


def test_a_python_component_runs_in_its_image_as_compiled():
    task = launch_of(PYTHON, environment={})
    command = container_command("docker", task, user="0:0", kfp_version="2.16.1")
    pip = "PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location"
    assert command[-5:-1] == ("--entrypoint", "sh", "python:3.11", "-ec")
    assert command[-1] == (
        f"{pip} --no-deps kfp==2.16.1\n"
        f"{pip} --index-url https://one/simple --extra-index-url https://two/simple 'numpy>=1,<3' six\n"
        "_KFP_RUNTIME=true exec python3 -m kfp.dsl.executor_main"
        " --component_module_path '/h/run/a task/attempt-1/source.py'"
        " --executor_input \"$(cat '/h/run/a task/attempt-1/input.json')\" --function_to_execute f"
    )


def test_each_attempt_has_a_name_of_its_own():
    names = {container_name(launch_of(SHELL, root=Path(f"/h/run/t/attempt-{number}"))) for number in range(5)}
    assert len(names) == 5


def test_without_an_engine_every_image_is_refused(tmp_path):
    launcher = ContainerLauncher(engine=find_engine(path=str(tmp_path)))
    assert launcher.refuse(SHELL).endswith("image alpine:3: neither docker nor podman is installed")


def fake_engine(folder, script):
    folder.mkdir()
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    return program


def test_an_engine_that_does_not_answer_is_refused_with_its_words(tmp_path):
    fake_engine(tmp_path / "bin", "echo 'Cannot connect to the daemon' >&2; exit 1")
    engine = find_engine(path=f"{tmp_path}/bin")
    assert engine.problem == "docker does not answer (Cannot connect to the daemon)"


@pytest.fixture
def docker(tmp_path):
    """A program that stands for docker: it notes its arguments and runs the command after the image on this machine."""
    script = f"""
printf '%s\\n' "$*" >> {tmp_path}/calls
case "$1" in
  version) echo 28.0 ;;
  rm) kill -9 $(cat {tmp_path}/pid) ;;
  run)
    while [ "$1" != --entrypoint ]; do shift; done
    entry=$2; shift 3
    setsid "$entry" "$@" & echo $! > {tmp_path}/pid
    wait $! ;;
esac
"""
    return fake_engine(tmp_path / "bin", script)


def prepared(tmp_path, command):
    root = tmp_path / "task"
    (root / "work").mkdir(parents=True)
    return launch_of(ContainerComponent(image="any", command=command), root=root, environment={})


def test_a_container_runs_and_its_status_and_last_words_come_back(docker, tmp_path):
    launcher = ContainerLauncher(engine=find_engine(path=str(docker.parent)))
    assert launcher.refuse(SHELL) == ""
    launcher.launch(prepared(tmp_path, ("sh", "-c", "echo working; echo no such table >&2; exit 4")))
    [ended] = launcher.wait(60)
    launcher.close()
    assert ended.status == 4
    assert ended.error == "The task ended with status 4. Its last words: no such table"


def test_cancel_ends_the_container_too(docker, tmp_path):
    launcher = ContainerLauncher(engine=find_engine(path=str(docker.parent)))
    task = prepared(tmp_path, ("sleep", "300"))
    launcher.launch(task)
    launcher.wait(0.5)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").is_file():
        assert time.monotonic() < deadline
        launcher.wait(0.1)
    launcher.cancel(task.key)
    [ended] = launcher.wait(60)
    assert ended.status < 0
    launcher.close()
    assert f"rm --force {container_name(task)}" in (tmp_path / "calls").read_text()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(bool(find_engine().problem), reason=f"no container engine: {find_engine().problem}")
def test_a_real_container_writes_its_output(tmp_path):
    component = ContainerComponent(image="busybox", command=("sh", "-c", "echo hi > out.txt"))
    task = msgspec.structs.replace(prepared(tmp_path, ()), component=component)
    launcher = ContainerLauncher()
    launcher.launch(task)
    [ended] = launcher.wait(120)
    launcher.close()
    assert ended.error == ""
    assert (Path(task.folder) / "out.txt").read_text() == "hi\n"
