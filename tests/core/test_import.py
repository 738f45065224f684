from __future__ import annotations

import subprocess
import sys


def modules_after(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(' '.join(set(sys.modules) - before))"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_importing_mainspring_is_light() -> None:
    assert len(modules_after("import mainspring")) <= 120
    assert len(modules_after("import mainspring.core")) <= 120


def test_the_data_plane_needs_no_database_and_no_frames() -> None:
    loaded = modules_after("import mainspring.serving")
    heavy = {"sqlalchemy", "alembic", "polars", "pandas", "mlflow", "kfp", "pyarrow", "mainspring.db", "lightgbm"}
    assert not loaded & heavy


def test_the_command_line_loads_nothing_heavy_before_a_command_runs() -> None:
    loaded = modules_after("import mainspring.cli.app")
    assert not loaded & {"sqlalchemy", "polars", "numpy", "starlette", "rich", "mainspring.lineage", "mainspring.db"}
