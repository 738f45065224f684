"""Compiles a pipeline with KFP's own compiler; run as a script, by path, in a process of its own.

``python -P kfp_compile.py FILE FUNCTION OUTPUT FOLDER…``: importing kfp costs over a second and user code is imported,
so neither happens in the engine's process. Prints one JSON document: the source files under the given folders that
the result depends on, or the error.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType


def main(file: str, function: str, output: str, folders: list[str]) -> dict[str, object]:
    """Compile ``function`` of ``file`` to ``output``; return the sources used, or the error in one line."""
    warnings.simplefilter("ignore")
    from kfp import compiler

    sys.path.insert(0, str(Path(file).parent))
    sys.dont_write_bytecode = True
    try:
        spec = importlib.util.spec_from_file_location(Path(file).stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        pipeline = getattr(module, function, None) if function else _only_pipeline(module)
        if pipeline is None:
            return {"error": f"there is no {function!r} in it"}
        compiler.Compiler().compile(pipeline, output)
    except BaseException as error:  # noqa: BLE001 - the file is user code: whatever it raises is the answer
        return {"error": _describe(error, file)}
    return {"sources": sorted(_sources(file, folders))}


def _only_pipeline(module: ModuleType) -> object:
    """Return the pipeline a file defines, when one is left without those it uses; else its only component."""
    from kfp.dsl.base_component import BaseComponent
    from kfp.dsl.graph_component import GraphComponent

    components = {name: value for name, value in vars(module).items() if isinstance(value, BaseComponent)}
    pipelines = {name: value for name, value in components.items() if isinstance(value, GraphComponent)}
    used = {name for pipeline in pipelines.values() for name in pipeline.pipeline_spec.components}
    found = {name: value for name, value in pipelines.items() if f"comp-{value.name}" not in used}
    if len(found or pipelines or components) != 1:
        names = ", ".join(pipelines) or "none"
        raise ValueError(f"it has to define one pipeline, or name one after a colon; it defines: {names}")
    return next(iter((found or pipelines or components).values()))


def _sources(file: str, folders: list[str]) -> set[str]:
    paths = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    return {file} | {path for path in paths if path.endswith(".py") and path.startswith(tuple(folders))}


def _describe(error: BaseException, file: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    message = " ".join(str(error).split())[:500]
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {message}"


if __name__ == "__main__":
    answer = main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    sys.stdout.write("\n" + json.dumps(answer))
