"""Packages: a model version as an OCI build context with the manifests of the platforms it runs on."""

from __future__ import annotations

from mainspring.delivery.packaging.context import PackageInputs, write_package
from mainspring.delivery.packaging.requirements import Lock, lock_requirements
from mainspring.delivery.packaging.spec import PackageSpec, check_spec, dns_name

__all__ = ["Lock", "PackageInputs", "PackageSpec", "check_spec", "dns_name", "lock_requirements", "write_package"]
