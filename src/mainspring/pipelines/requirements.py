"""Requirements of a component, checked against what is installed; nothing is ever installed here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def unmet_requirements(requirements: Iterable[str]) -> list[str]:
    """Return one line per requirement that this environment does not satisfy."""
    return [problem for text in requirements if (problem := _problem(text))]


def installed_versions(requirements: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each requirement that names a distribution."""
    names = [requirement.name for text in requirements if (requirement := _parse(text))]
    return {name: version for name in names if (version := _installed(name))}


def _problem(text: str) -> str:
    requirement = _parse(text)
    if requirement is None:
        return f"{text} (not a name and a version)"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return ""
    if requirement.url:
        return f"{text} (an address cannot be checked)"
    version = _installed(requirement.name)
    if not version:
        return f"{text} (not installed)"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{text} (installed: {version})"
    return ""


def _parse(text: str) -> Requirement | None:
    # Late: most components name no requirements, and every engine would pay for the parser.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _installed(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
