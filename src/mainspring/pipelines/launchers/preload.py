"""Which modules a zygote should hold warm for a component: chosen from what its source imports.

A fork costs the more the more its parent holds (under a millisecond with KFP's executor alone, 13 ms with pandas and
scikit-learn), and an import costs seconds; so a task gets a zygote with just the slow packages it names. Only packages
known to bear being imported before a fork are ever preloaded; a task imports the rest itself, and nothing depends
on the choice but time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_MODULES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "pandas": ("numpy", "pandas"),
    "polars": ("numpy", "polars"),
    "pyarrow": ("numpy", "pyarrow", "pyarrow.parquet"),
    "scipy": ("numpy", "scipy", "scipy.stats"),
    "sklearn": (
        "numpy",
        "sklearn",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.metrics",
        "sklearn.model_selection",
        "sklearn.pipeline",
        "sklearn.preprocessing",
    ),
    "joblib": ("numpy", "joblib"),
    "lightgbm": ("numpy", "lightgbm"),
    "xgboost": ("numpy", "xgboost"),
    "mlflow": ("numpy", "mlflow", "mlflow.pyfunc"),
    "mainspring": ("numpy", "polars", "lightgbm", "mlflow.pyfunc", "mainspring.components"),
}
"""Packages that are slow to import and safe to fork, with the modules of them that tasks use."""


def preload_of(source: str) -> tuple[str, ...]:
    """Return the modules to hold warm for a component's source, always in the same order."""
    packages = {name.partition(".")[0] for name in _imports(source)}
    wanted = {module for package in packages if package in _MODULES for module in _MODULES[package]}
    ordered = dict.fromkeys(module for modules in _MODULES.values() for module in modules)
    return tuple(module for module in ordered if module in wanted)


def _imports(source: str) -> Iterator[str]:
    """Iterate over the names of imported modules, wherever the import stands; nothing for source that has errors."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # the task itself will say what is wrong with it
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
