"""The decider, on random dags with nesting and loops, with failures, crashes and cancellation at any point."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.plan import DagPlan, Interface, Loop, Plan, Retry, TaskPlan, make_dag
from mainspring.pipelines.schedule import Recorded, Scheduler, retry_delay
from mainspring.pipelines.values import Values

NOTHING = Interface(parameters={}, artifacts={}, output_parameters={}, output_artifacts={})
COMPONENT = PythonComponent(source="", function="f")
JOB = {"run_id": "r", "pipeline_job_resource_name": "r"}


def task(name, upstream, body=COMPONENT, *, runs_after_failure=False, loop=None):
    return TaskPlan(
        name=name,
        interface=NOTHING,
        body=body,
        parameters={},
        artifacts={},
        upstream=tuple(upstream),
        runs_after_failure=runs_after_failure,
        loop=loop,
    )


@st.composite
def dags(draw, depth=2):
    """A dag of up to six tasks, some of which are dags or loops over dags, with random edges."""
    tasks = {}
    for index in range(draw(st.integers(1, 6))):
        upstream = draw(st.lists(st.sampled_from(sorted(tasks)), unique=True, max_size=3)) if tasks else []
        body, loop = COMPONENT, None
        if depth and draw(st.integers(0, 3)) == 0:
            body = draw(dags(depth=depth - 1))
            if draw(st.booleans()):
                loop = Loop(item="i", raw=tuple(range(draw(st.integers(0, 3)))), limit=draw(st.integers(0, 2)))
        name = f"t{index}"
        tasks[name] = task(name, upstream, body, runs_after_failure=draw(st.integers(0, 9)) == 0, loop=loop)
    return make_dag(tasks)


def all_leaves(dag, prefix=""):
    """The addresses of all tasks below a dag, those of all iterations too."""
    found = set()
    for name, item in dag.tasks.items():
        address = f"{prefix}{name}"
        if not isinstance(item.body, DagPlan):
            found.add(address)
        elif item.loop is None:
            found |= all_leaves(item.body, address + "/")
        else:
            for index in range(len(item.loop.raw)):
                found |= all_leaves(item.body, f"{address}/{index}/")
    return found


def before(dag, prefix=""):
    """For each leaf, the leaves that have to end first."""
    found = {}
    for name, item in dag.tasks.items():
        address = f"{prefix}{name}"
        earlier = set()
        for up in item.upstream:
            earlier |= all_leaves(make_dag({up: task(up, [], dag.tasks[up].body, loop=dag.tasks[up].loop)}), prefix)
        inner = {address: set()}
        if isinstance(item.body, DagPlan):
            insides = [address + "/"]
            if item.loop is not None:
                insides = [f"{address}/{index}/" for index in range(len(item.loop.raw))]
            inner = {leaf: others for inside in insides for leaf, others in before(item.body, inside).items()}
        found |= {leaf: others | earlier for leaf, others in inner.items()}
    return found


def limits_hold(dag, running, prefix=""):
    """Whether no loop has more iterations at work than it allows."""
    for name, item in dag.tasks.items():
        address = f"{prefix}{name}/"
        if item.loop is not None and item.loop.limit:
            at_work = {leaf[len(address) :].split("/")[0] for leaf in running if leaf.startswith(address)}
            if len(at_work) > item.loop.limit:
                return False
    return True


def plan_of(dag):
    return Plan(name="p", interface=NOTHING, root=dag)


class Follower:
    """Drives a scheduler as an engine does: keeps what is ready, what runs and what was left out."""

    def __init__(self, dag, records):
        self.scheduler = Scheduler(plan_of(dag), Values(), JOB, records)
        self.ready, self.left_out, self.canceled = set(), set(), set()
        self.look()

    def look(self):
        changes = self.scheduler.take()
        self.ready |= {item.address for item in changes.ready}
        self.left_out |= set(changes.skipped)
        self.canceled |= set(changes.canceled)
        assert not changes.unrunnable

    def end(self, address, record):
        self.scheduler.finish(address, record)
        self.look()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dags(), st.data())
def test_every_task_runs_once_after_those_before_it_whatever_crashes(dag, data):
    order = before(dag)
    fails = data.draw(st.sets(st.sampled_from(sorted(order)), max_size=2)) if order else set()
    records: dict[str, Recorded] = {}
    running: set[str] = set()
    ended: list[str] = []
    follower = Follower(dag, records)
    for _ in range(20 * len(order) + 1):
        if follower.scheduler.state != "RUNNING":
            break
        assert follower.ready or running, "the decider is stuck"
        move = data.draw(st.sampled_from(["start", "end", "end", "crash"]))
        if move == "crash":
            running, follower = set(), Follower(dag, records)
        elif follower.ready and (move == "start" or not running):
            chosen = data.draw(st.sampled_from(sorted(follower.ready)))
            follower.ready.remove(chosen)
            assert chosen not in records
            assert all(
                other in ended or any(other == out or other.startswith(out + "/") for out in follower.left_out)
                for other in order[chosen]
            )
            running.add(chosen)
            assert limits_hold(dag, running)
        elif running:
            chosen = data.draw(st.sampled_from(sorted(running)))
            running.remove(chosen)
            ended.append(chosen)
            records[chosen] = Recorded(state="FAILED" if chosen in fails else "COMPLETE", error="e")
            follower.end(chosen, records[chosen])
    else:
        return  # crashed all the time
    assert len(ended) == len(set(ended))
    left_out = {leaf for leaf in order for out in follower.left_out if leaf == out or leaf.startswith(out + "/")}
    assert set(ended) | left_out == set(order)
    assert not set(ended) & left_out
    assert follower.scheduler.state == ("FAILED" if set(ended) & fails else "COMPLETE")
    if not set(ended) & fails:
        assert not left_out
    told_at_once = Follower(dag, records)
    assert told_at_once.scheduler.state == follower.scheduler.state
    assert told_at_once.scheduler.error == follower.scheduler.error
    assert not told_at_once.ready


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dags(), st.data())
def test_after_cancellation_nothing_more_starts_and_the_run_ends(dag, data):
    follower = Follower(dag, {})
    for _ in range(data.draw(st.integers(0, 4))):
        if follower.ready and follower.scheduler.state == "RUNNING":
            chosen = min(follower.ready)
            follower.ready.remove(chosen)
            follower.end(chosen, Recorded(state="COMPLETE"))
    if follower.scheduler.state != "RUNNING":
        return
    at_work = set(follower.scheduler.active)
    follower.scheduler.cancel()
    for address in at_work:
        follower.end(address, Recorded(state="CANCELED"))
    assert follower.ready <= at_work
    assert follower.scheduler.state == "CANCELED"


def test_a_failure_skips_what_is_behind_it_and_nothing_else():
    dag = make_dag(
        {
            "a": task("a", []),
            "b": task("b", ["a"]),
            "c": task("c", ["b"]),
            "d": task("d", []),
            "e": task("e", ["c"], runs_after_failure=True),
        }
    )
    follower = Follower(dag, {"a": Recorded(state="FAILED", error="x")})
    assert follower.left_out == {"b", "c"}
    assert follower.ready == {"d", "e"}
    assert follower.scheduler.state == "RUNNING"


def test_a_record_with_other_inputs_does_not_count():
    dag = make_dag({"a": task("a", [])})
    stale = Recorded(state="COMPLETE", inputs=Values(parameters={"x": 1}))
    assert Follower(dag, {"a": stale}).ready == {"a"}
    assert Follower(dag, {"a": Recorded(state="COMPLETE", inputs=Values())}).scheduler.state == "COMPLETE"


def test_an_end_told_twice_counts_once():
    dag = make_dag({"a": task("a", []), "b": task("b", ["a"])})
    follower = Follower(dag, {})
    follower.end("a", Recorded(state="COMPLETE"))
    follower.end("a", Recorded(state="FAILED", error="late"))
    follower.end("b", Recorded(state="COMPLETE"))
    assert follower.scheduler.state == "COMPLETE"


def test_what_nobody_needs_any_more_is_forgotten():
    dag = make_dag({"a": task("a", []), "b": task("b", ["a"]), "c": task("c", ["b"])})
    follower = Follower(dag, {})
    follower.end("a", Recorded(state="COMPLETE", outputs=Values(parameters={"big": "x" * 1000})))
    follower.end("b", Recorded(state="COMPLETE"))
    root = follower.scheduler._active["c"].dag
    assert root.nodes["a"].outputs == Values()


def test_retries_wait_longer_each_time_up_to_a_limit():
    retry = Retry(count=4, delay_ms=1000, factor=3.0, longest_ms=10_000)
    assert [retry_delay(retry, failures) for failures in range(1, 6)] == [1000, 3000, 9000, 10_000, None]
