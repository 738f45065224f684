"""What the image installs: exactly what is installed here, as far as serving this model needs it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core import InvalidInput, Unavailable
from mainspring.serving.mlmodel import MLmodel, read_mlmodel

try:
    from packaging.markers import default_environment
    from packaging.requirements import InvalidRequirement, Requirement
except ImportError as error:
    raise Unavailable(f"Packaging needs {error.name}.", hint="pip install packaging") from error

OURS = "mainspring"
_OUR_LOADER = "mainspring.serving.pyfunc"
_FLAVOURS = {
    "sklearn": ["scikit-learn"],
    "lightgbm": ["lightgbm"],
    "onnx": ["onnxruntime"],
    "pytorch": ["torch"],
    "tensorflow": ["tensorflow"],
    "keras": ["keras"],
}
_LIBRARIES = {"lightgbm": "libgomp1"}
_XGBOOST = ("xgboost-cpu", "xgboost")
_GENERIC = ["mlflow-skinny", "pandas"]
"""What a model without a runtime of its own is loaded with."""
_NATIVE = frozenset({*_FLAVOURS, "xgboost"})


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """Distributions with their exact versions, by name."""

    pins: list[str]

    def text(self) -> str:
        """The lines of a requirements file."""
        return "".join(f"{pin}\n" for pin in self.pins)


def lock_requirements(model: Path, *, has_grpc: bool = False, with_ours: bool = True) -> Lock:
    """Pin what the model's runtime needs, and all that needs, to the versions installed here.

    The model was tested with them: that is what makes them the right ones. ``with_ours`` pins mainspring itself too;
    leave it out where its wheel is part of the context.
    """
    roots = [OURS, *runtime_of(read_mlmodel(model), model)]
    roots += ["grpcio", "protobuf"] if has_grpc else []
    versions = _closure(roots)
    if not with_ours:
        versions.pop(OURS)
    return Lock(pins=[f"{name}=={version}" for name, version in sorted(versions.items())])


def system_libraries(lock: str) -> list[str]:
    """Return the Debian packages whose libraries the wheels of a lock do not bring along."""
    names = {line.partition("==")[0].strip().lower() for line in lock.splitlines()}
    return sorted({library for name, library in _LIBRARIES.items() if name in names})


def runtime_of(description: MLmodel, model: Path) -> list[str]:
    """Return the distributions that load and run the model."""
    flavours = description.flavors
    pyfunc = flavours.get("python_function") or {}
    if pyfunc.get("loader_module") == _OUR_LOADER:
        return ["lightgbm"]
    found = [name for flavour, names in _FLAVOURS.items() if flavour in flavours for name in names]
    if "xgboost" in flavours:
        found.append(next((name for name in _XGBOOST if _is_installed(name)), _XGBOOST[0]))
    if any(model.rglob("*.skops")):
        found.append("skops")
    if not flavours.keys() & _NATIVE or pyfunc.get("code"):
        found += _GENERIC
    return [*found, *_declared(model)] if not flavours.keys() & _NATIVE else found


def _declared(model: Path) -> list[str]:
    """Return the distributions in the model's own requirements file, but for MLflow, of which the skinny part does."""
    path = model / "requirements.txt"
    if not path.is_file():
        return []
    names = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            names.append(Requirement(line.partition("#")[0].strip()).name)
        except InvalidRequirement:  # an option or a blank line
            continue
    return [name for name in names if _normal(name) != "mlflow"]


def _closure(roots: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions and of everything they need on this platform."""
    versions: dict[str, str] = {}
    waiting = [(name, frozenset[str]()) for name in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    environment: dict[str, Any] = dict(default_environment())
    while waiting:
        name, extras = waiting.pop()
        key = (_normal(name), extras)
        if key in seen:
            continue
        seen.add(key)
        found = _find(name)
        versions[key[0]] = found.version
        for text in found.requires or ():
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in (extras or {""})):
                waiting.append((needed.name, frozenset(needed.extras)))
    return versions


def _find(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise Unavailable(
            f"The model needs {name}, which is not installed here.",
            hint="Install it, so that the image gets a version the model was tried with; or pass --lock FILE.",
        ) from error


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_lock(text: str) -> str:
    """Return the text of a lock file; raise `InvalidInput` for a line that is not pinned exactly."""
    for line in text.splitlines():
        plain = line.partition("#")[0].strip().rstrip("\\").strip()
        if plain and not plain.startswith("--hash") and not re.match(r"[A-Za-z0-9._-]+(\[[^\]]*\])?==[^\s*]+", plain):
            raise InvalidInput(f"The lock has a line that is not pinned: {plain[:80]!r}.", hint="Pin it: name==version")
    return text
