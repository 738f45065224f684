"""Small pipelines, written with kfp.dsl as users write them (kfp needs real annotations: no __future__ import)."""

# ruff: noqa: B006, I002, UP006, UP035, UP045, SIM115, PTH103, PTH109, PTH110, PTH123, PTH202

from typing import Dict, List, NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

ALL = [
    "chain",
    "chain10",
    "fan",
    "diamond",
    "nested",
    "branches",
    "quoted",
    "injected",
    "retried",
    "failing",
    "ignoring",
    "exiting",
    "oneof",
    "values",
    "artifacts",
    "referenced",
    "sleeping",
    "needy",
    "looping",
    "container",
    "counting",
    "context",
    "dying",
    "edited",
    "lingering",
    "guarded",
    "wide",
    "mending",
    "cleaning",
    "thirty",
    "logging_and_dying",
]


@dsl.component
def add(x: int, y: int = 1) -> int:
    return x + y


@dsl.component
def note(path: str, name: str, x: int = 0, seconds: float = 0.0) -> int:
    import time

    with open(path, "a") as file:
        file.write(name + "\n")
    time.sleep(seconds)
    return x + 1


@dsl.component
def fail(message: str = "no luck") -> int:
    raise ValueError(message)


@dsl.component
def say(text: str = "default") -> str:
    return text


@dsl.pipeline
def chain(x: int = 1) -> int:
    return add(x=add(x=x).output).output


@dsl.pipeline
def chain10(x: int = 0) -> int:
    task = add(x=x)
    for _ in range(9):
        task = add(x=task.output)
    return task.output


@dsl.pipeline
def fan(x: int = 0):
    for index in range(20):
        add(x=index)


@dsl.pipeline
def diamond(path: str) -> int:
    top = note(path=path, name="top")
    left = note(path=path, name="left", x=top.output)
    right = note(path=path, name="right").after(top)
    return note(path=path, name="bottom", x=left.output).after(right).output


@dsl.pipeline
def inner(x: int, more: Optional[int] = None, word: str = "z") -> int:
    first = add(x=x)
    say(text=f"{word}-{first.output}")
    return add(x=first.output, y=10).output


@dsl.pipeline
def nested(x: int = 1) -> int:
    one = inner(x=x)
    two = inner(x=one.output)
    return two.output


@dsl.pipeline
def branches(n: int = 1):
    first = add(x=n)
    with dsl.If(first.output == 2):
        say(text="if")
        with dsl.If(n == 1):
            say(text="inner if")
    with dsl.Elif(first.output > 10):
        say(text="elif")
    with dsl.Else():
        say(text="else")
    say(text="after").after(first)


@dsl.pipeline
def quoted(word: str = "it's"):
    with dsl.If(word == "it's"):
        say(text="yes")
    with dsl.Else():
        say(text="no")


@dsl.pipeline
def injected(word: str):
    with dsl.If(word == "go"):
        say(text="went")


@dsl.component
def fail_until(path: str, attempts: int) -> int:
    import os

    tries = os.path.getsize(path) if os.path.exists(path) else 0
    with open(path, "a") as file:
        file.write("x")
    if tries + 1 < attempts:
        raise RuntimeError(f"attempt {tries + 1}")
    return tries + 1


@dsl.pipeline
def retried(path: str, attempts: int = 3) -> int:
    task = fail_until(path=path, attempts=attempts)
    task.set_retry(2)
    return task.output


@dsl.pipeline
def failing(path: str):
    bad = fail(message="the sea is\nfull")
    add(x=bad.output)
    note(path=path, name="other branch")


@dsl.pipeline
def ignoring(path: str):
    bad = fail(message="no luck")
    note(path=path, name="ran anyway", x=bad.output, seconds=0.0).ignore_upstream_failure()


@dsl.component
def last_words(path: str, status: dsl.PipelineTaskFinalStatus):
    with open(path, "w") as file:
        file.write(f"{status.state}|{status.error_message}")


@dsl.pipeline
def exiting(path: str, message: str = "boom"):
    with dsl.ExitHandler(last_words(path=path)):
        fail(message=message)


@dsl.pipeline
def oneof(n: int = 1) -> str:
    with dsl.If(n == 1):
        one = say(text="one")
    with dsl.Else():
        other = say(text="other")
    return say(text=dsl.OneOf(one.output, other.output)).output


@dsl.component
def types(
    i: int, f: float, b: bool, s: str, items: List[int], table: Dict[str, int], opt: Optional[str] = None
) -> NamedTuple("Out", [("repr", str), ("items", list), ("table", dict)]):
    from collections import namedtuple

    seen = repr((i, f, b, s, items, table, opt))
    return namedtuple("Out", ["repr", "items", "table"])(seen, items, table)


@dsl.pipeline
def values(s: str = 'it\'s "x"'):
    first = types(i=1, f=2.5, b=True, s=s, items=[1, 2], table={"a": 1, "b": 2})
    types(
        i=3,
        f=1.5,
        b=False,
        s=f"<{s}|{first.outputs['repr']}>",
        items=first.outputs["items"],
        table=first.outputs["table"],
    )


@dsl.component
def make_file(text: str, data: Output[Dataset]):
    data.metadata["rows"] = len(text)
    with open(data.path, "w") as file:
        file.write(text)


@dsl.component
def make_folder(data: Input[Dataset], model: Output[Model]) -> str:
    import os

    os.makedirs(model.path + "/inner")
    with open(model.path + "/inner/weights", "w") as file:
        file.write(open(data.path).read().upper())
    with open(data.path, "a") as file:
        file.write("a task may spoil its copy")
    return str(data.metadata["rows"])


@dsl.component
def read_folder(model: Input[Model]) -> str:
    return open(model.path + "/inner/weights").read()


@dsl.pipeline
def artifacts(text: str = "abc") -> str:
    made = make_file(text=text)
    model = make_folder(data=made.outputs["data"])
    return read_folder(model=model.outputs["model"]).output


@dsl.component
def refer(digest: str, data: Output[Dataset]):
    data.metadata["mainspring_digest"] = digest


@dsl.component
def seen(data: Input[Dataset]) -> str:
    import os

    return f"{data.metadata['mainspring_digest']} {os.path.exists(data.path)}"


@dsl.pipeline
def referenced(digest: str) -> str:
    return seen(data=refer(digest=digest).outputs["data"]).output


@dsl.pipeline
def sleeping(path: str):
    note(path=path, name="one", seconds=0.6)
    note(path=path, name="two", seconds=0.6)


@dsl.component(packages_to_install=["numpy>=1.0", "numpy>=999", "no-such-distribution-x"])
def wants_more():
    pass


@dsl.pipeline
def needy():
    wants_more()


@dsl.pipeline
def looping():
    with dsl.ParallelFor([1, 2]) as item:
        add(x=item)


@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="alpine:3", command=["echo", "hi"])


@dsl.pipeline
def container():
    shell()


@dsl.pipeline
def counting(path: str, seconds: float = 0.4):
    task = note(path=path, name="t0", seconds=seconds)
    task.set_caching_options(False)
    for index in range(1, 6):
        task = note(path=path, name=f"t{index}", x=task.output, seconds=seconds)
        task.set_caching_options(False)


@dsl.component
def look_around() -> dict:
    import os

    wanted = ("MAINSPRING_RUN_ID", "MAINSPRING_EXECUTION_ID", "MAINSPRING_TASK", "MLFLOW_RUN_CONTEXT", "COLOUR", "OWN")
    print("looking around")
    return {name: os.environ.get(name, "") for name in wanted} | {"cwd": os.getcwd()}


@dsl.pipeline
def context() -> dict:
    task = look_around()
    task.set_env_variable("OWN", "mine")
    return task.output


@dsl.component
def die(how: str):
    import os
    import signal
    import sys

    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        sys.exit(3)
    from mainspring.core import Refused

    raise Refused("An anomaly was found.")


@dsl.pipeline
def dying(how: str):
    die(how=how)


@dsl.component
def seen_file(data: Input[Dataset], path: str) -> str:
    with open(path, "a") as file:
        file.write("seen\n")
    return open(data.path).read()


@dsl.pipeline
def edited(path: str):
    made = make_file(text="abc")
    seen_file(data=made.outputs["data"], path=path)


@dsl.component
def linger(path: str, seconds: float):
    import os
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "60"])
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
    time.sleep(seconds)


@dsl.pipeline
def lingering(path: str, seconds: float = 60.0):
    linger(path=path, seconds=seconds)


@dsl.component
def linger_unless_killed(path: str, name: str, seconds: float) -> str:
    import time

    with open(path, "a") as file:
        file.write(f"start {name}\n")
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write(f"end {name}\n")
    return name


@dsl.pipeline
def guarded(path: str, words: str, seconds: float = 30.0):
    with dsl.ExitHandler(last_words(path=words)):
        first = linger_unless_killed(path=path, name="first", seconds=seconds)
        linger_unless_killed(path=path, name="second", seconds=0.0).after(first)


@dsl.pipeline
def wide(path: str, seconds: float = 0.3, items: List[int] = [0, 1, 2, 3, 4, 5, 6, 7]):
    with dsl.ParallelFor(items) as item:
        task = note(path=path, name=f"n{item}", seconds=seconds)
        task.set_caching_options(False)


@dsl.component
def fail_while(switch: str, path: str, name: str) -> str:
    import os

    with open(path, "a") as file:
        file.write(f"{name}\n")
    if os.path.exists(switch):
        raise RuntimeError(f"{switch} is there")
    return name


@dsl.pipeline
def mending(path: str, switch: str, words: str) -> str:
    with dsl.ExitHandler(last_words(path=words)):
        note(path=path, name="steady")
        with dsl.ParallelFor(["a", "b"]) as item:
            kept = say(text=item)
            fail_while(switch=switch, path=path, name=kept.output)
    return say(text="end").output


@dsl.pipeline
def cleaning(path: str):
    fail(message="x")
    say(text="a").set_caching_options(False)


@dsl.component
def effect(folder: str, name: str, before: list) -> str:
    """Mark start and end of an attempt, hold a lock so that two at once fail, and leave a process behind that hides."""
    import fcntl
    import os
    import subprocess
    import time

    def mark(word):
        with open(f"{folder}/{name}.marks", "a") as file:
            file.write(f"{word} {os.environ['MAINSPRING_EXECUTION_ID']}\n")

    with open(f"{folder}/running/{name}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mark("start")
        subprocess.Popen(["sleep", "300"], cwd="/", start_new_session=True)
        time.sleep(0.02)
        mark("end")
    return name


@dsl.pipeline
def thirty(folder: str) -> List[str]:
    layer = [effect(folder=folder, name=f"a{index}", before=[]) for index in range(5)]
    for letter in "bcd":
        layer = [
            effect(folder=folder, name=f"{letter}{index}", before=[layer[index].output, layer[(index + 1) % 5].output])
            for index in range(5)
        ]
    with dsl.ParallelFor([0, 1, 2, 3, 4, 5, 6, 7, 8]) as item:
        inner = effect(folder=folder, name=f"loop{item}", before=[layer[0].output])
    effect(folder=folder, name="last", before=dsl.Collected(inner.output))
    return dsl.Collected(inner.output)


@dsl.component
def log_and_die() -> int:
    import os
    import signal

    from mainspring import client

    client.start_run(experiment="dying", name="cut")
    for step in range(20):
        client.log_metric("loss", 1.0 / (step + 1), step=step)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@dsl.pipeline
def logging_and_dying():
    log_and_die()
