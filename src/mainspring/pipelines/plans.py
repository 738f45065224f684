"""The plans of compiled pipelines in the store; the last few are kept, reading one costs milliseconds."""

from __future__ import annotations

from mainspring.blobs import LocalBlobs
from mainspring.pipelines.ir import read_pipeline
from mainspring.pipelines.plan import Plan
from mainspring.pipelines.planner import make_plan

_KEPT = 8


class Plans:
    """Plans by the digest of what was compiled."""

    def __init__(self, blobs: LocalBlobs) -> None:
        self._blobs = blobs
        self._plans: dict[str, Plan] = {}

    def get(self, digest: str) -> Plan:
        """Return the plan; raise `Corrupt` or `NotFound` when its bytes are not in the store as they were."""
        plan = self._plans.pop(digest, None) or make_plan(read_pipeline(self._blobs.read(digest)))
        self.keep(digest, plan)
        return plan

    def keep(self, digest: str, plan: Plan) -> None:
        """Remember a plan that was made already."""
        while len(self._plans) >= _KEPT:
            del self._plans[next(iter(self._plans))]
        self._plans[digest] = plan
