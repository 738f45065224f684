"""What a run would do, told before it does it: which tasks an earlier result would stand in for."""

from __future__ import annotations

from typing import Literal

import msgspec

from mainspring.pipelines.attempt import Workplace, job_of, own_variables
from mainspring.pipelines.cache import decide_cache
from mainspring.pipelines.importing import run_importer
from mainspring.pipelines.plan import Importer, Plan, places
from mainspring.pipelines.records import PipelineRun
from mainspring.pipelines.schedule import Recorded, Scheduler


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of one task. ``waits``: it depends on a task that has to run first, so nobody knows."""

    address: str
    verdict: Literal["cached", "runs", "waits", "skipped", "fails"]
    reason: str


def forecast(place: Workplace, plan: Plan, run: PipelineRun) -> list[Forecast]:
    """Follow a run as far as earlier results lead; nothing is recorded and nothing runs."""
    job = job_of(run, place.work_folder)
    arguments = msgspec.structs.replace(run.artifacts, parameters=run.parameters)
    scheduler = Scheduler(plan, arguments, job)
    known: dict[str, Forecast] = {}
    expected = {found.address: None for found in places(plan.root)}
    with place.database.session() as session:
        while True:
            changes = scheduler.take()
            for loop, inside in changes.opened:
                expected.pop(loop, None)
                expected.update((found.address, None) for found in inside)
            for verdict, reasons in (("skipped", changes.skipped), ("fails", changes.unrunnable)):
                for address, reason in reasons.items():
                    known[address] = Forecast(address=address, verdict=verdict, reason=reason)  # type: ignore[arg-type]
            for item in changes.ready:
                if isinstance(item.task.body, Importer):
                    outputs = run_importer(item.task.body, item.given, job, place.blobs, place.work_folder.parent)
                    known[item.address] = Forecast(address=item.address, verdict="runs", reason="an importer looks")
                    scheduler.finish(item.address, Recorded(state="COMPLETE", outputs=outputs))
                    continue
                variables = own_variables(item, job)
                decision = decide_cache(session, place.blobs, item, variables, use_cache=run.use_cache, is_first=True)
                verdict = "runs" if decision.found is None else "cached"
                known[item.address] = Forecast(address=item.address, verdict=verdict, reason=decision.reason)  # type: ignore[arg-type]
                if decision.found is not None:
                    end = Recorded(state="CACHED", outputs=decision.found.outputs)
                    scheduler.finish(item.address, end)
            if not changes.ready:
                break
    unknown = "depends on a task that has to run"
    return [known.get(address, Forecast(address=address, verdict="waits", reason=unknown)) for address in expected]
