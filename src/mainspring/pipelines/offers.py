"""Tasks an engine lets others run: offered in the database, claimed by a worker, followed by their rows.

An offer is a row that exactly one worker can delete; who deletes it has the task. The engine of the run still
decides what follows from how the task ends.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from mainspring.db import Session, read_json
from mainspring.pipelines.attempt import Workplace, end_attempt
from mainspring.pipelines.journal import own
from mainspring.pipelines.leases import Presence, find_worker, is_alive, living_workers
from mainspring.pipelines.plan import Retry
from mainspring.pipelines.records import PipelineRun, TaskRun, get_run, get_task, read_tasks, update_task
from mainspring.pipelines.schedule import ReadyTask, is_exit_task
from mainspring.pipelines.values import Values
from mainspring.pipelines.waiting import WaitingTask

_OFFER = "INSERT INTO pipeline_offer (run_id,address,task) VALUES (?,?,?)"
_OLDEST_OFFERS = (
    "SELECT run_id,address,task FROM pipeline_offer JOIN pipeline_run ON id=run_id"
    " WHERE state='RUNNING' AND desired IN ('','RUNNING') ORDER BY run_id,address LIMIT 20"
)


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
        with self._place.database.session() as session:
            others = living_workers(session, self._place.lease_clock, self._presence.id)
        room = sum(worker.slots for worker in others) - len(self._tasks)
        chosen = list(items.items())[: max(0, room)]
        if not chosen:
            return []
        with self._place.database.write_session() as session:
            own(session, self._run)
            for address, waiting in chosen:
                item = waiting.ready
                task = OfferedTask(
                    inputs=item.inputs, given=item.given, retry=item.retry, cache_key=waiting.key, cache=waiting.reason
                )
                session.run(_OFFER, (self._run.id, address, json.dumps(msgspec.to_builtins(task))))
                update_task(session, self._run.id, address, state="OFFERED")
        self._tasks.update((address, waiting.ready) for address, waiting in chosen)
        return [address for address, _ in chosen]

    def poll(self) -> list[tuple[ReadyTask, TaskRun]]:
        """Return the tasks that are with nobody else any more, and how they stand: ended, or PENDING again."""
        if not self._tasks:
            return []
        with self._place.database.session() as session:
            rows = read_tasks(session, self._run.id, self._tasks)
        return [(self._tasks.pop(row.address), row) for row in rows if row.state not in ("OFFERED", "RUNNING")]

    def withdraw(self, limit: int) -> list[tuple[ReadyTask, TaskRun]]:
        """Take back offers nobody has claimed yet; return them, PENDING again."""
        if not self._tasks or limit <= 0:
            return []
        taken: list[tuple[ReadyTask, TaskRun]] = []
        with self._place.database.write_session() as session:
            own(session, self._run)
            for row in read_tasks(session, self._run.id, self._tasks):
                if len(taken) < limit and row.state == "OFFERED" and claim(session, row.run_id, row.address):
                    update_task(session, row.run_id, row.address, state="PENDING")
                    taken.append((self._tasks.pop(row.address), msgspec.structs.replace(row, state="PENDING")))
        return taken

    def rescue(self) -> list[tuple[ReadyTask, TaskRun]]:
        """Take back the tasks of workers that died or hang; return them, PENDING again."""
        if not self._tasks:
            return []
        self._place.watch.expel(self._place.database, self._presence.id)
        clock, found = self._place.lease_clock, list[tuple[ReadyTask, TaskRun]]()
        with self._place.database.session() as session:
            rows = read_tasks(session, self._run.id, self._tasks)
            dead = [
                row for row in rows if row.state == "RUNNING" and not is_alive(find_worker(session, row.owner), clock)
            ]
        for row in dead:
            with self._place.database.write_session() as session:
                own(session, self._run)
                now = read_tasks(session, row.run_id, [row.address])[0]
                if (now.state, now.attempt) != ("RUNNING", row.attempt):
                    continue  # it ended after all
                self._place.journal.lose_task(session, now)
            end_attempt(self._place, row)
            lost = msgspec.structs.replace(now, state="PENDING", execution_id=None)
            found.append((self._tasks.pop(row.address), lost))
        return found

    def cancel(self, session: Session, *, all_of_them: bool) -> list[TaskRun]:
        """Record that what is offered or runs elsewhere is canceled; the workers stop it. Exit tasks may go on."""
        canceled = []
        for row in read_tasks(session, self._run.id, self._tasks):
            if row.state in ("OFFERED", "RUNNING") and (all_of_them or not is_exit_task(self._tasks[row.address].task)):
                claim(session, row.run_id, row.address)
                canceled.append(self._place.journal.cancel_task(session, self._run, row))
        for row in canceled:
            del self._tasks[row.address]
        return canceled


def claim(session: Session, run_id: str, address: str) -> bool:
    """Take an offer, if it is still there; inside the caller's transaction."""
    return session.run("DELETE FROM pipeline_offer WHERE run_id=? AND address=?", (run_id, address)) == 1


def claim_next(session: Session) -> tuple[PipelineRun, TaskRun, OfferedTask] | None:
    """Take the oldest offer of a run that is wanted, or None; inside the caller's transaction."""
    for run_id, address, document in session.rows(_OLDEST_OFFERS):
        if claim(session, run_id, address):
            task = get_task(session, run_id, address)
            if task.state != "OFFERED":
                continue  # its engine has taken it back
            return get_run(session, run_id), task, msgspec.convert(read_json(document), OfferedTask)
    return None


def has_offers(session: Session) -> bool:
    """Say whether anything is offered."""
    return session.row("SELECT 1 FROM pipeline_offer LIMIT 1") is not None
