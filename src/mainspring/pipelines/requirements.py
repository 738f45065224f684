"""Requirements of a component, checked against what is installed; nothing is ever installed here."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement


def unmet_requirements(requirements: Iterable[str]) -> list[str]:
    """Return one line per requirement that this environment does not satisfy."""
    return [problem for text in requirements if (problem := _problem(text))]


def installed_versions(requirements: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each requirement that names a distribution."""
    found = {}
    for text in requirements:
        try:
            name = Requirement(text).name
            found[name] = metadata.version(name)
        except (InvalidRequirement, metadata.PackageNotFoundError):
            continue
    return found


def _problem(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"{text} (not a name and a version)"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return ""
    if requirement.url:
        return f"{text} (an address cannot be checked)"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{text} (not installed)"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{text} (installed: {version})"
    return ""
