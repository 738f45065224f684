"""What is in production can be replaced, not deleted: versions that endpoints of the project serve."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring import registry
from mainspring.core import Conflict
from mainspring.lineage import Store


def refuse_served(connection: sa.Connection, store: Store, name: str, version: str = "") -> None:
    """Raise `Conflict` if an endpoint serves this version, or any version of the model if none is given."""
    for endpoint in store.project.endpoints:
        served = _served_versions(connection, store, endpoint, name)
        if (version in served) if version else served:
            found = version or min(served)
            what = f"Version {found} of {name}" if version else f"Registered model {name}"
            raise Conflict(
                f"{what} cannot be deleted: endpoint {endpoint} serves version {found}.",
                hint="Deploy another version, or take the endpoint out of the project, first.",
            )


def _served_versions(connection: sa.Connection, store: Store, endpoint: str, name: str) -> set[str]:
    """Return the versions of a model an endpoint answers or shadows with, and its champion if it is to serve that."""
    from mainspring.delivery import latest_deployment  # only projects with endpoints need it

    deployed = latest_deployment(connection, endpoint)
    variants = deployed.document.variants if deployed is not None else ()
    served = {variant.model.version for variant in variants if variant.model.name == name}
    if store.project.endpoints[endpoint].model == name:
        champion = registry.resolve_alias(connection, name, "champion")
        served |= {champion.version} if champion is not None else set()
    return served
