"""The decider, on random dags, with failures and crashes at any point."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.plan import DagPlan, Interface, Plan, Retry, TaskPlan, leaves
from mainspring.pipelines.schedule import Recorded, decide, retry_delay

NOTHING = Interface(parameters={}, artifacts={}, output_parameters={}, output_artifacts={})
COMPONENT = PythonComponent(source="", function="f")
JOB = {"run_id": "r", "pipeline_job_resource_name": "r"}


def task(name, upstream, body=COMPONENT, *, runs_after_failure=False):
    return TaskPlan(
        name=name,
        interface=NOTHING,
        body=body,
        parameters={},
        artifacts={},
        upstream=tuple(upstream),
        runs_after_failure=runs_after_failure,
    )


@st.composite
def dags(draw, depth=2):
    """A dag of up to six tasks, some of which are dags, with random edges."""
    tasks = {}
    for index in range(draw(st.integers(1, 6))):
        upstream = draw(st.lists(st.sampled_from(sorted(tasks)), unique=True, max_size=3)) if tasks else []
        body = draw(dags(depth=depth - 1)) if depth and draw(st.integers(0, 4)) == 0 else COMPONENT
        name = f"t{index}"
        tasks[name] = task(name, upstream, body, runs_after_failure=draw(st.integers(0, 9)) == 0)
    return DagPlan(tasks=tasks)


def before(dag, prefix=""):
    """For each leaf, the leaves that have to end first."""
    found = {}
    for name, item in dag.tasks.items():
        address = f"{prefix}{name}"
        earlier = {
            leaf for up in item.upstream for leaf, _ in leaves(DagPlan(tasks={up: dag.tasks[up]}), prefix.rstrip("/"))
        }
        inner = before(item.body, address + "/") if isinstance(item.body, DagPlan) else {address: set()}
        found |= {leaf: others | earlier for leaf, others in inner.items()}
    return found


@given(dags(), st.data())
def test_every_task_runs_once_after_those_before_it_whatever_crashes(dag, data):
    plan = Plan(name="p", interface=NOTHING, root=dag)
    order = before(dag)
    fails = data.draw(st.sets(st.sampled_from(sorted(order)), max_size=2))
    records: dict[str, Recorded] = {}
    ended: list[str] = []
    for _ in range(20 * len(order)):
        decision = decide(plan, {}, records, JOB)
        if decision.state != "RUNNING":
            break
        running = [address for address, record in records.items() if record.state == "RUNNING"]
        assert decision.ready or running, "the decider is stuck"
        move = data.draw(st.sampled_from(["start", "end", "crash"]))
        if move == "crash":
            records = {key: record for key, record in records.items() if record.state != "RUNNING"}
        elif decision.ready and (move == "start" or not running):
            chosen = data.draw(st.sampled_from([item.address for item in decision.ready]))
            assert records.get(chosen) is None
            assert all(other in ended or other in decision.skipped for other in order[chosen])
            records[chosen] = Recorded(state="RUNNING")
        elif running:
            chosen = data.draw(st.sampled_from(running))
            records[chosen] = Recorded(state="FAILED" if chosen in fails else "COMPLETE", error="e")
            ended.append(chosen)
    else:
        return  # crashed all the time
    assert len(ended) == len(set(ended))
    assert set(ended) | set(decision.skipped) == set(order)
    assert not set(ended) & set(decision.skipped)
    assert decision.state == ("FAILED" if set(ended) & fails else "COMPLETE")
    if not set(ended) & fails:
        assert not decision.skipped


def test_a_failure_skips_what_is_behind_it_and_nothing_else():
    dag = DagPlan(
        tasks={
            "a": task("a", []),
            "b": task("b", ["a"]),
            "c": task("c", ["b"]),
            "d": task("d", []),
            "e": task("e", ["c"], runs_after_failure=True),
        }
    )
    decision = decide(Plan(name="p", interface=NOTHING, root=dag), {}, {"a": Recorded(state="FAILED", error="x")}, JOB)
    assert set(decision.skipped) == {"b", "c"}
    assert [item.address for item in decision.ready] == ["d", "e"]
    assert decision.state == "RUNNING"


def test_retries_wait_longer_each_time_up_to_a_limit():
    retry = Retry(count=4, delay_ms=1000, factor=3.0, longest_ms=10_000)
    assert [retry_delay(retry, failures) for failures in range(1, 6)] == [1000, 3000, 9000, 10_000, None]
