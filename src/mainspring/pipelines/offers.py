"""Tasks an engine lets others run: offered in the database, claimed by a worker, followed by their rows.

An offer is a row that exactly one worker can delete; who deletes it has the task. The engine of the run still
decides what follows from how the task ends.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.db.tables.pipelines import pipeline_offer, pipeline_run
from mainspring.pipelines.attempt import Workplace, attempt_folder
from mainspring.pipelines.journal import own
from mainspring.pipelines.leases import Presence, end_strays, find_worker, is_alive, living_workers
from mainspring.pipelines.plan import Retry
from mainspring.pipelines.records import PipelineRun, TaskRun, get_run, get_task, read_tasks, update_task
from mainspring.pipelines.schedule import ReadyTask, is_exit_task
from mainspring.pipelines.values import Values
from mainspring.pipelines.waiting import WaitingTask


class OfferedTask(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to know about a task beyond the plan: all that was resolved when it became ready."""

    inputs: Values
    given: dict[str, Any]
    retry: Retry
    cache_key: str
    cache: str


class Offers:
    """The tasks of one run that are offered to others, or run elsewhere."""

    def __init__(self, place: Workplace, run: PipelineRun, presence: Presence) -> None:
        self._place = place
        self._run = run
        self._presence = presence
        self._tasks: dict[str, ReadyTask] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def adopt(self, item: ReadyTask) -> None:
        """Follow a task that a living worker runs already."""
        self._tasks[item.address] = item

    def offer(self, items: dict[str, WaitingTask]) -> list[str]:
        """Offer as many tasks as other workers have room for; return the addresses of those that were offered."""
        with self._place.database.read() as connection:
            others = living_workers(connection, self._place.lease_clock, self._presence.id)
        room = sum(worker.slots for worker in others) - len(self._tasks)
        chosen = list(items.items())[: max(0, room)]
        if not chosen:
            return []
        with self._place.database.write() as connection:
            own(connection, self._run)
            for address, waiting in chosen:
                item = waiting.ready
                task = OfferedTask(
                    inputs=item.inputs, given=item.given, retry=item.retry, cache_key=waiting.key, cache=waiting.reason
                )
                row = {"run_id": self._run.id, "address": address, "task": msgspec.to_builtins(task)}
                connection.execute(sa.insert(pipeline_offer).values(**row))
                update_task(connection, self._run.id, address, state="OFFERED")
        self._tasks.update((address, waiting.ready) for address, waiting in chosen)
        return [address for address, _ in chosen]

    def poll(self) -> list[tuple[ReadyTask, TaskRun]]:
        """Return the tasks that are with nobody else any more, and how they stand: ended, or PENDING again."""
        if not self._tasks:
            return []
        with self._place.database.read() as connection:
            rows = read_tasks(connection, self._run.id, self._tasks)
        return [(self._tasks.pop(row.address), row) for row in rows if row.state not in ("OFFERED", "RUNNING")]

    def withdraw(self, limit: int) -> list[tuple[ReadyTask, TaskRun]]:
        """Take back offers nobody has claimed yet; return them, PENDING again."""
        if not self._tasks or limit <= 0:
            return []
        taken: list[tuple[ReadyTask, TaskRun]] = []
        with self._place.database.write() as connection:
            own(connection, self._run)
            for row in read_tasks(connection, self._run.id, self._tasks):
                if len(taken) < limit and row.state == "OFFERED" and claim(connection, row.run_id, row.address):
                    update_task(connection, row.run_id, row.address, state="PENDING")
                    taken.append((self._tasks.pop(row.address), msgspec.structs.replace(row, state="PENDING")))
        return taken

    def rescue(self) -> list[tuple[ReadyTask, TaskRun]]:
        """Take back the tasks of workers that died; return them, PENDING again."""
        if not self._tasks:
            return []
        clock, found = self._place.lease_clock, list[tuple[ReadyTask, TaskRun]]()
        with self._place.database.read() as connection:
            rows = read_tasks(connection, self._run.id, self._tasks)
            dead = [
                row
                for row in rows
                if row.state == "RUNNING" and not is_alive(find_worker(connection, row.owner), clock)
            ]
        for row in dead:
            with self._place.database.write() as connection:
                own(connection, self._run)
                now = read_tasks(connection, row.run_id, [row.address])[0]
                if (now.state, now.attempt) != ("RUNNING", row.attempt):
                    continue  # it ended after all
                self._place.journal.lose_task(connection, now)
            end_strays(attempt_folder(self._place.work_folder, row).root)
            lost = msgspec.structs.replace(now, state="PENDING", execution_id=None)
            found.append((self._tasks.pop(row.address), lost))
        return found

    def cancel(self, connection: sa.Connection, *, all_of_them: bool) -> list[TaskRun]:
        """Record that what is offered or runs elsewhere is canceled; the workers stop it. Exit tasks may go on."""
        canceled = []
        for row in read_tasks(connection, self._run.id, self._tasks):
            if row.state in ("OFFERED", "RUNNING") and (all_of_them or not is_exit_task(self._tasks[row.address].task)):
                claim(connection, row.run_id, row.address)
                canceled.append(self._place.journal.cancel_task(connection, self._run, row))
        for row in canceled:
            del self._tasks[row.address]
        return canceled


def claim(connection: sa.Connection, run_id: str, address: str) -> bool:
    """Take an offer, if it is still there; inside the caller's transaction."""
    matches = (pipeline_offer.c.run_id == run_id) & (pipeline_offer.c.address == address)
    return connection.execute(sa.delete(pipeline_offer).where(matches)).rowcount == 1


def claim_next(connection: sa.Connection) -> tuple[PipelineRun, TaskRun, OfferedTask] | None:
    """Take the oldest offer of a run that is wanted, or None; inside the caller's transaction."""
    query = (
        sa.select(pipeline_offer)
        .join(pipeline_run, pipeline_run.c.id == pipeline_offer.c.run_id)
        .where(pipeline_run.c.state == "RUNNING", pipeline_run.c.desired.in_(("", "RUNNING")))
        .order_by(pipeline_offer.c.run_id, pipeline_offer.c.address)
        .limit(20)
    )
    for row in connection.execute(query).mappings().all():
        if claim(connection, row["run_id"], row["address"]):
            task = get_task(connection, row["run_id"], row["address"])
            if task.state != "OFFERED":
                continue  # its engine has taken it back
            return get_run(connection, row["run_id"]), task, msgspec.convert(row["task"], OfferedTask)
    return None


def has_offers(connection: sa.Connection) -> bool:
    """Say whether anything is offered."""
    return connection.execute(sa.select(pipeline_offer.c.run_id).limit(1)).first() is not None
