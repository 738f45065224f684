"""Components that behave badly, and pipelines of them (kfp needs real annotations: no __future__ import)."""

# ruff: noqa: I002, PTH103, PTH109, PTH110, PTH120, PTH123, PTH211

from kfp import dsl

ALL = ["misbehaving", "backing_off", "leaving", "beside"]


@dsl.component
def misbehave(how: str, data: dsl.Output[dsl.Dataset], path: str = "") -> str:
    """Do what a well-behaved task does not."""
    import os
    import resource
    import signal
    import sys
    import time

    output = None
    folder = os.path.dirname(os.getcwd())
    if how == "closes stdout":
        sys.stdout.close()
        return "done"
    if how == "closes descriptors":
        os.close(1)
        os.close(2)
        print("into the void")
        return "done"
    if how == "prints 200 MB":
        line = "x" * 999
        for _ in range(200_000):
            print(line)
        return "done"
    if how == "ignores SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if how == "fills its disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with open(path, "wb") as file:
            file.write(b"x" * 100_000)
    if how == "exits without output":
        os._exit(0)
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "gets a real-time signal":
        os.kill(os.getpid(), signal.SIGRTMIN + 3)
    if how == "kills its parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if how == "stops its parent":
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(60)
    if how == "raises zeros":
        raise ValueError("a\x00b")
    if how == "raises halves":
        raise ValueError("a\ud800b")
    if how == "returns zeros":
        return "a\x00b"
    if how == "returns bytes":
        output = b'{"parameterValues": {"Output": "\xff"}}'
    if how == "returns half a character":
        output = b'{"parameterValues": {"Output": "\\ud800"}}'
    if how == "returns no JSON":
        output = b'{"parameterValues": {"Output"'
    if how == "returns a list":
        output = b"[1]"
    if how == "returns odd values":
        output = b'{"parameterValues": 7}'
    if how == "returns odd artifacts":
        output = b'{"parameterValues": {"Output": "x"}, "artifacts": {"data": [3]}}'
    if how == "names in bytes":
        os.makedirs(f"{folder}/outputs/data")
        with open(os.fsencode(f"{folder}/outputs/data/") + b"\xff\xfe", "wb") as file:
            file.write(b"x")
        return "done"
    if how == "leaves a pipe":
        os.makedirs(f"{folder}/outputs/data")
        os.mkfifo(f"{folder}/outputs/data/pipe")
        os.symlink(".", f"{folder}/outputs/data/circle")
        return "done"
    if how == "cannot say why":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        raise ValueError("nobody hears me")
    if how == "returns deep values":
        output = b'{"parameterValues": {"Output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    if output is not None:
        os.makedirs(f"{folder}/outputs", exist_ok=True)
        with open(f"{folder}/outputs/executor_output.json", "wb") as file:
            file.write(output)
        os._exit(0)
    return "done"


@dsl.pipeline
def misbehaving(how: str, path: str = "") -> str:
    task = misbehave(how=how, path=path)
    task.set_caching_options(False)
    return task.outputs["Output"]


@dsl.component
def try_and_fail(path: str):
    with open(path, "a") as file:
        file.write("x\n")
    raise RuntimeError("as always")


@dsl.component
def tell(path: str, seconds: float, status: dsl.PipelineTaskFinalStatus):
    import time

    with open(path, "a") as file:
        file.write("start\n")
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write(f"end {status.state}\n")


@dsl.pipeline
def backing_off(path: str, words: str, seconds: float = 0.0):
    with dsl.ExitHandler(tell(path=words, seconds=seconds)):
        try_and_fail(path=path).set_retry(5, backoff_duration="60s").set_caching_options(False)


@dsl.component
def leave_daemon(path: str, seconds: float = 0.0) -> int:
    """Fork twice, leave the session and the folder, and live on."""
    import os
    import subprocess
    import time

    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            program = f"echo $$ >> {path}; exec sleep 300"
            subprocess.Popen(["sh", "-c", program], start_new_session=True, cwd="/")
            time.sleep(300)
        os._exit(0)
    while not os.path.exists(path):
        time.sleep(0.01)
    time.sleep(seconds)
    return 1


@dsl.pipeline
def leaving(path: str, seconds: float = 0.0):
    leave_daemon(path=path, seconds=seconds).set_caching_options(False)


@dsl.component
def step(path: str, name: str, seconds: float = 0.0) -> str:
    import os
    import time

    with open(path, "a") as file:
        file.write(f"start {name} {os.environ['MAINSPRING_EXECUTION_ID']}\n")
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write(f"end {name} {os.environ['MAINSPRING_EXECUTION_ID']}\n")
    return name


@dsl.pipeline
def beside(path: str, seconds: float = 1.0):
    with dsl.ParallelFor([0, 1, 2]) as item:
        step(path=path, name=f"s{item}", seconds=seconds).set_caching_options(False)
