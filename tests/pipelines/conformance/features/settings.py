"""Placeholders, environment, platform settings, and what a component is told of them, written as users write them."""

# ruff: noqa: I002, PTH123, PTH208

import os

from kfp import dsl, kubernetes
from parts import ALL, add, make_file, make_list, pipeline, read_files, say


@pipeline
def placeholders() -> str:
    words = [
        dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
        dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
        dsl.PIPELINE_TASK_ID_PLACEHOLDER,
        dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
        dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        dsl.PIPELINE_ROOT_PLACEHOLDER,
    ]
    return say(text=" ".join(words)).output


@dsl.component
def see_environment(names: list) -> dict:
    import os

    return {name: os.environ.get(name) for name in names}


@pipeline
def environment() -> dict:
    task = see_environment(names=["PLAIN", "PASSWORD", "COLOUR", "MISSING"])
    task.set_env_variable("PLAIN", "value")
    kubernetes.use_secret_as_env(task, secret_name="store", secret_key_to_env={"password": "PASSWORD"})
    kubernetes.use_secret_as_env(task, secret_name="nowhere", secret_key_to_env={"x": "MISSING"}, optional=True)
    kubernetes.use_config_map_as_env(task, config_map_name="paint", config_map_key_to_env={"colour": "COLOUR"})
    kubernetes.add_node_selector(task, "disk", "ssd")
    return task.output


@dsl.component
def read_mounts(secret: str, empty: str) -> str:
    import os

    with open(empty + "/scratch", "w") as file:
        file.write("x")
    return open(secret + "/password").read() + " " + " ".join(os.listdir(empty))


MOUNTS = f"/tmp/mainspring-conformance-{os.getppid()}"  # fixed when the pipeline is compiled, by the tests


@pipeline
def mounts() -> str:
    task = read_mounts(secret=MOUNTS + "/secret", empty=MOUNTS + "/empty")
    kubernetes.use_secret_as_volume(task, secret_name="store", mount_path=MOUNTS + "/secret")
    kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path=MOUNTS + "/empty")
    return task.output


@dsl.component
def sleep(seconds: float, path: str):
    import os
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "60"], start_new_session=False)
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
    time.sleep(seconds)


@pipeline
def deadline(path: str):
    task = sleep(seconds=30.0, path=path)
    kubernetes.set_timeout(task, 1)


@dsl.component
def size(items: int) -> str:
    return f"{items}00m"


@pipeline
def resources() -> int:
    task = add(x=1)
    task.set_cpu_limit(size(items=5).output)
    task.set_memory_limit("1G")
    return task.output


@dsl.component
def write_workspace(folder: str) -> str:
    with open(folder + "/shared", "w") as file:
        file.write("through the workspace")
    return folder


@dsl.component
def read_workspace(folder: str) -> str:
    return open(folder + "/shared").read()


def workspace() -> str:
    first = write_workspace(folder=dsl.WORKSPACE_PATH_PLACEHOLDER)
    return read_workspace(folder=dsl.WORKSPACE_PATH_PLACEHOLDER).after(first).output


ALL["workspace"] = dsl.pipeline(
    name="workspace", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi"))
)(workspace)


@pipeline
def loop_no_artifacts(size: int = 0) -> str:
    with dsl.ParallelFor(make_list(size=size).output) as item:
        made = make_file(text=f"{item}")
    return read_files(files=dsl.Collected(made.outputs["data"])).output


@dsl.component
def see_variables() -> str:
    import os

    return os.environ["ADDRESS"]


@pipeline
def variables_of_variables() -> str:
    task = see_variables().set_env_variable("HOST", "here")
    return task.set_env_variable("ADDRESS", "$(HOST):80 $(NOBODY) $$(HOST)").output


@dsl.component(
    task_config_passthroughs=[
        dsl.TaskConfigField.RESOURCES,
        dsl.TaskConfigField.ENV,
        dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_TOLERATIONS, apply_to_task=True),
        dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
        dsl.TaskConfigField.KUBERNETES_AFFINITY,
        dsl.TaskConfigField.KUBERNETES_VOLUMES,
    ],
)
def told(config: dsl.TaskConfig) -> dict:
    import dataclasses
    import os

    return {**dataclasses.asdict(config), "LEVEL": os.environ.get("LEVEL", "none")}


@pipeline
def told_its_settings() -> dict:
    cpu = say(text="100m")
    task = told().set_cpu_limit(cpu.output).set_memory_limit("64Mi").set_env_variable("LEVEL", "3")
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(2)
    kubernetes.add_node_selector(task, label_key="disk", label_value="ssd")
    kubernetes.add_toleration(task, key="k", operator="Exists", effect="NoExecute", toleration_seconds=60)
    kubernetes.add_node_affinity(task, match_expressions=[{"key": "a", "operator": "In", "values": ["b"]}])
    kubernetes.add_node_affinity(task, match_fields=[{"key": "c", "operator": "Exists", "values": []}], weight=5)
    return task.output


@pipeline
def large_requests() -> int:
    return add(x=1).set_memory_limit("64Mi").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1).output
