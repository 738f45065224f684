"""Pipelines for every feature of KFP's IR, written as users write them (kfp needs real annotations: no __future__)."""

# ruff: noqa: B006, I002, UP006, UP035, UP045, PTH103, PTH107, PTH110, PTH118, PTH123, PTH202, PTH208, SIM117

import os
from typing import Dict, List, NamedTuple, Optional

from kfp import dsl, kubernetes
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

ALL: List[str] = []


def pipeline(function):
    ALL.append(function.__name__)
    return dsl.pipeline(function)


@dsl.component
def add(x: int, y: int = 1) -> int:
    return x + y


@dsl.component
def say(text: str = "default") -> str:
    return text


@dsl.component
def show(value: list) -> str:
    return repr(value)


@dsl.component
def show_dict(value: dict) -> str:
    return repr(value)


@dsl.component
def make_list(size: int) -> list:
    return list(range(size))


@dsl.component
def make_rows() -> list:
    return [{"a": 1, "b": [1, 2], "c": {"d": "x"}}, {"a": 2, "b": [], "c": {"d": "it's"}}]


@dsl.component
def fail(message: str = "no luck") -> int:
    raise ValueError(message)


@dsl.component
def fail_with_text(message: str) -> str:
    raise ValueError(message)


@dsl.component
def mark(path: str, name: str) -> str:
    with open(path, "a") as file:
        file.write(name + "\n")
    return name


@dsl.component
def make_file(text: str, data: Output[Dataset]):
    data.metadata["length"] = len(text)
    with open(data.path, "w") as file:
        file.write(text)


@dsl.component
def read_file(data: Input[Dataset]) -> str:
    return open(data.path).read()


@dsl.component
def read_files(files: Input[List[Dataset]]) -> str:
    return "|".join(open(file.path).read() for file in files)


# --- loops


@pipeline
def loop_raw() -> List[int]:
    with dsl.ParallelFor([1, 2, 3]) as item:
        task = add(x=item)
    return dsl.Collected(task.output)


@pipeline
def loop_runtime(size: int = 3) -> str:
    with dsl.ParallelFor(make_list(size=size).output) as item:
        task = add(x=item, y=10)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_parameter(items: List[str] = ["b", "a"]) -> str:
    with dsl.ParallelFor(items, parallelism=1) as item:
        task = say(text=item)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_nested() -> str:
    with dsl.ParallelFor([1, 2]) as outer:
        with dsl.ParallelFor([10, 20, 30]) as inner:
            task = add(x=outer, y=inner)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_fields() -> str:
    with dsl.ParallelFor(make_rows().output) as row:
        task = say(text=f"{row.a}")
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_over_field() -> str:
    with dsl.ParallelFor([{"a": 1, "p": [1, 2]}, {"a": 5, "p": [7]}]) as row:
        with dsl.ParallelFor(row.p) as item:
            task = add(x=item, y=10)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_skipping() -> str:
    with dsl.ParallelFor([1, 2, 3, 4]) as item:
        first = add(x=item)
        with dsl.If(first.output > 3):
            task = add(x=first.output, y=100)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_ints_stay_ints() -> str:
    with dsl.ParallelFor([[1, {"a": 2}], [3.5, {"a": 4}]]) as item:
        task = say(text=f"{item}")
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_artifacts() -> str:
    with dsl.ParallelFor(["x", "y"]) as item:
        with dsl.ParallelFor(["1", "2"]) as other:
            made = make_file(text=f"{item}{other}")
    return read_files(files=dsl.Collected(made.outputs["data"])).output


@dsl.pipeline
def inner_over_artifacts(files: List[Dataset]) -> str:
    with dsl.ParallelFor(files) as file:
        task = read_file(data=file)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_over_artifacts() -> str:
    with dsl.ParallelFor(["x", "y", "z"]) as item:
        made = make_file(text=item)
    return inner_over_artifacts(files=dsl.Collected(made.outputs["data"])).output


@dsl.component
def count_running(folder: str, item: int) -> int:
    import os
    import time

    mine = os.path.join(folder, str(item))
    open(mine, "w").close()
    time.sleep(0.15)
    seen = len(os.listdir(folder))
    os.remove(mine)
    return seen


@pipeline
def loop_limit(folder: str) -> str:
    with dsl.ParallelFor([1, 2, 3, 4, 5], parallelism=2) as item:
        task = count_running(folder=folder, item=item)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_failing(path: str):
    with dsl.ParallelFor([1, 2, 3]) as item:
        with dsl.If(item == 2):
            fail(message=f"item {item}")
        with dsl.Else():
            mark(path=path, name=f"{item}")


# --- conditions


@dsl.component
def flags() -> NamedTuple("Out", [("yes", bool), ("text", str), ("number", float), ("whole", int)]):
    from collections import namedtuple

    return namedtuple("Out", ["yes", "text", "number", "whole"])(True, "it's", 2.5, 7)


@pipeline
def conditions(path: str):
    found = flags()
    with dsl.If(found.outputs["yes"] == True):  # noqa: E712
        mark(path=path, name="bool")
    with dsl.If(found.outputs["text"] == "it's"):
        mark(path=path, name="text")
    with dsl.If(found.outputs["number"] >= 2.5):
        mark(path=path, name="number")
    with dsl.If(found.outputs["whole"] < 7):
        mark(path=path, name="less")
    with dsl.Elif(found.outputs["whole"] == 7):
        mark(path=path, name="equal")
    with dsl.Else():
        mark(path=path, name="more")


@pipeline
def injection(path: str, v: str):
    with dsl.If(v == "go"):
        mark(path=path, name="went")


@pipeline
def oneof_artifact(n: int) -> str:
    with dsl.If(n == 1):
        one = make_file(text="one")
    with dsl.Elif(n == 2):
        two = make_file(text="two")
    with dsl.Else():
        other = make_file(text="other")
    chosen = dsl.OneOf(one.outputs["data"], two.outputs["data"], other.outputs["data"])
    return read_file(data=chosen).output


@pipeline
def oneof_parameter(n: int) -> int:
    with dsl.If(n == 1):
        one = add(x=1, y=0)
    with dsl.Else():
        other = add(x=n, y=100)
    return dsl.OneOf(one.output, other.output)


# --- values


@dsl.component
def types(i: int, f: float, b: bool, s: str, items: List[int], table: Dict[str, int], opt: Optional[str] = None) -> str:
    return repr((i, f, b, s, items, table, opt))


@dsl.pipeline
def inner_values(items: List[int], table: Dict[str, int], opt: Optional[str] = None) -> str:
    return types(i=1, f=2.0, b=False, s="s", items=items, table=table, opt=opt).output


@pipeline
def values_nested(table: Dict[str, int] = {"a": 1, "b": 2}) -> str:
    return inner_values(items=[1, 2, 3], table=table).output


@pipeline
def values_given(opt: Optional[str] = None) -> str:
    return inner_values(items=[], table={}, opt=opt).output


@dsl.component
def maybe(x: Optional[int] = None, y: Optional[int] = 5) -> str:
    return f"{x} {y}"


@dsl.pipeline
def inner_maybe(x: Optional[int] = None, y: Optional[int] = 7) -> str:
    return maybe(x=x, y=y).output


@pipeline
def optional(x: Optional[int] = None) -> NamedTuple("Out", [("plain", str), ("nested", str), ("empty", str)]):
    from collections import namedtuple

    plain, nested, empty = maybe(x=x), inner_maybe(x=x), inner_maybe()
    return namedtuple("Out", ["plain", "nested", "empty"])(plain.output, nested.output, empty.output)


@pipeline
def any_into_string(number: int = 3) -> str:
    return say(text=f"{make_list(size=number).output} {number}").output


@pipeline
def fstrings(word: str = "a {brace} it's") -> str:
    first = say(text="b")
    return say(text=f"{word}-{first.output}-{word}").output


@dsl.component
def number_as_text() -> str:
    return "12"


@dsl.component
def lie() -> int:
    class Lie(int):
        pass

    return Lie(3)


@pipeline
def list_of_outputs() -> str:
    return show(value=[add(x=1).output, 5, {"k": add(x=2).output}]).output


# --- artifacts


@dsl.component
def set_path(folder: str, model: Output[Model]):
    import os

    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/weights", "w") as file:
        file.write("custom")
    model.set_path(folder)
    model.metadata["where"] = "custom"


@dsl.component
def read_model(model: Input[Model]) -> str:
    return open(model.path + "/weights").read() + " " + model.metadata["where"]


@pipeline
def custom_path(folder: str) -> str:
    return read_model(model=set_path(folder=folder).outputs["model"]).output


@dsl.component
def change_uri(path: str, data: Output[Dataset], remote: Output[Dataset]):
    with open(path, "w") as file:
        file.write("elsewhere")
    data.uri = path
    remote.uri = "gs://bucket/x"
    remote.metadata["size"] = 3


@dsl.component
def see_uri(data: Input[Dataset], remote: Input[Dataset]) -> str:
    return f"{open(data.path).read()} {remote.uri} {remote.path} {remote.metadata['size']}"


@pipeline
def changed_uri(path: str) -> str:
    changed = change_uri(path=path)
    return see_uri(data=changed.outputs["data"], remote=changed.outputs["remote"]).output


@dsl.component
def return_artifact() -> Dataset:
    from kfp import dsl

    data = dsl.Dataset(uri=dsl.get_uri("mine"), metadata={"k": 1})
    with open(data.path, "w") as file:
        file.write("returned")
    return data


@pipeline
def returned_artifact() -> str:
    return read_file(data=return_artifact().output).output


@dsl.component
def log_metrics(metrics: Output[Metrics]):
    metrics.log_metric("accuracy", 0.93)


@dsl.pipeline
def inner_artifacts(data: Input[Dataset]) -> Dataset:
    text = read_file(data=data)
    return make_file(text=f"<{text.output}>").outputs["data"]


@pipeline
def nested_artifacts() -> Dataset:
    first = make_file(text="abc")
    return inner_artifacts(data=inner_artifacts(data=first.outputs["data"]).output).output


@pipeline
def root_artifact(data: Input[Dataset]) -> str:
    return read_file(data=data).output


@dsl.component
def see_import(data: Input[Artifact]) -> str:
    return f"{open(data.path).read()} {data.metadata['k']} {data.metadata['fixed']}"


@pipeline
def imported(path: str, k: int = 4) -> str:
    found = dsl.importer(artifact_uri=path, artifact_class=Dataset, metadata={"k": k, "fixed": "v"}, reimport=True)
    return see_import(data=found.output).output


@dsl.component
def see_remote(data: Input[Artifact]) -> str:
    return f"{data.uri} {data.path}"


@pipeline
def imported_remote() -> str:
    found = dsl.importer(artifact_uri="gs://bucket/data.csv", artifact_class=Dataset)
    return see_remote(data=found.output).output


# --- failure, retry, exit


@dsl.component
def last_words(path: str, status: dsl.PipelineTaskFinalStatus):
    with open(path, "w") as file:
        file.write(f"{status.state}|{status.error_message}|{status.pipeline_task_name}")


@pipeline
def exit_failed(path: str):
    with dsl.ExitHandler(last_words(path=path)):
        with dsl.ParallelFor([1, 2]) as item:
            with dsl.If(item == 2):
                fail(message="boom it's")


@pipeline
def exit_well(path: str):
    with dsl.ExitHandler(last_words(path=path)):
        add(x=1)


@dsl.component
def note_status(path: str, state: dict):
    with open(path, "w") as file:
        file.write(state["state"])


@dsl.pipeline
def cleanup(path: str, status: dsl.PipelineTaskFinalStatus):
    note_status(path=path, state=status)


@dsl.component
def flaky(path: str, name: str, times: int = 2) -> str:
    import os

    mine = f"{path}.{name}"
    tries = os.path.getsize(mine) if os.path.exists(mine) else 0
    with open(mine, "a") as file:
        file.write("x")
    if tries + 1 < times:
        raise RuntimeError(f"{name} try {tries + 1}")
    return f"{name} {tries + 1}"


@dsl.pipeline
def inner_flaky(path: str) -> str:
    steady = flaky(path=path, name="steady", times=1)
    return flaky(path=path, name="inner").after(steady).output


@pipeline
def retries(path: str) -> str:
    task = flaky(path=path, name="task", times=3)
    task.set_retry(2, backoff_duration="0s", backoff_factor=1.0)
    nested = inner_flaky(path=path)
    nested.set_retry(1)
    with dsl.ParallelFor([1, 2]) as item:
        looped = flaky(path=path, name=f"loop{item}")
        looped.set_retry(1)
    return say(text=f"{task.output} {nested.output}").output


@pipeline
def ignoring(path: str) -> str:
    bad = fail_with_text(message="no luck")
    return say(text=bad.output).ignore_upstream_failure().output


@dsl.component
def optional_text(x: int = 4) -> int:
    return x + 1


@pipeline
def ignoring_defaults(path: str):
    bad = fail(message="no luck")
    task = optional_text(x=bad.output)
    task.ignore_upstream_failure()
    mark(path=path, name=f"{task.output}")


@pipeline
def other_branch(path: str):
    add(x=fail().output)
    mark(path=path, name="other")


# --- placeholders, environment, platform


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


ALL.append("workspace")
workspace = dsl.pipeline(
    name="workspace", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi"))
)(workspace)


# --- order


@dsl.component
def nap(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return time.time()


@pipeline
def parallel() -> str:
    with dsl.ParallelFor([1.0, 1.0, 1.0]) as seconds:
        task = nap(seconds=seconds)
    other = nap(seconds=1.0)
    return show(value=dsl.Collected(task.output)).after(other).output


@dsl.component
def helped(x: int) -> int:
    def twice(value: int) -> int:
        return 2 * value

    return twice(x)


@dsl.pipeline
def inner_twice(x: int) -> int:
    return add(x=helped(x=x).output).output


@pipeline
def used_twice() -> int:
    return inner_twice(x=inner_twice(x=1).output).output


# --- what a component is told


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
