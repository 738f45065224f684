"""Packages whose names are looked up when they are first used, so that importing one does not import all it can do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from importlib import import_module
from pkgutil import iter_modules


def names_of(package: str, light: tuple[str, ...]) -> Callable[[str], object]:
    """Return a package's ``__getattr__``: it finds the names in its ``__all__`` in its modules.

    Those that are ``light`` to import are tried first, then the others. The package imports the same names under
    ``TYPE_CHECKING``.
    """

    def find(name: str) -> object:
        namespace = vars(sys.modules[package])
        exported: Collection[str] = namespace.get("__all__", ())
        if name in exported:
            others = sorted(found.name for found in iter_modules(namespace["__path__"]) if found.name not in light)
            for module in (*light, *others):
                names = vars(import_module(f"{package}.{module}"))
                if name in names:
                    namespace[name] = names[name]
                    return names[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
