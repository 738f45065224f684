"""Run a notebook: parameters go in as papermill does it, the executed notebook comes out, as .ipynb and as a page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mainspring.components.artifacts import ArtifactFile
from mainspring.core import Corrupt, Foreign, InvalidInput, NotFound, Refused, Unavailable

TAG, INJECTED = "parameters", "injected-parameters"
_STYLE = (
    "body{font:14px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{padding:.5rem;overflow:auto;border-left:3px solid #8888}pre.out{border-color:transparent}"
    "pre.error{border-color:#c33}img{max-width:100%}"
)


def run_notebook_file(
    path: str,
    *,
    parameters: Mapping[str, Any],
    executed: ArtifactFile,
    page: ArtifactFile,
    timeout_s: int = 3600,
) -> None:
    """Execute a notebook from top to bottom and write what it became, also if a cell fails; then raise `Refused`.

    The parameters stand in a cell of their own after the one tagged ``parameters``, or first of all if there is none.
    """
    nbclient, nbformat = _import_notebooks()
    source = Path(path)
    if not source.is_file():
        raise NotFound(f"There is no notebook {path}.", hint="Name an .ipynb file.")
    try:
        notebook = nbformat.read(source, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.validator.NotebookValidationError, ValueError, KeyError) as error:
        raise Corrupt(f"{path} is not a notebook: {str(error)[:200]}") from error
    inject_parameters(notebook, parameters)
    client = nbclient.NotebookClient(
        notebook, timeout=timeout_s, resources={"metadata": {"path": str(source.resolve().parent)}}
    )
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        raise Refused(
            f"A cell of {source.name} failed: {error.ename}: {str(error.evalue)[:300]}",
            hint="The executed notebook shows which one.",
        ) from error
    except nbclient.exceptions.CellTimeoutError as error:
        raise Unavailable(f"A cell of {source.name} took more than {timeout_s} s.", hint="Raise timeout_s.") from error
    finally:
        nbformat.write(notebook, executed.path)
        Path(page.path).write_text(render_page(notebook, source.stem))
    executed.metadata["cells"] = len(notebook.cells)


def inject_parameters(notebook: Foreign, parameters: Mapping[str, Any]) -> None:  # nbformat's node
    """Put the parameters into a notebook; values are written as Python literals, so that none can become code."""
    import nbformat

    if not parameters:
        return
    wrong = [name for name in parameters if not name.isidentifier()]
    if wrong:
        raise InvalidInput(f"{wrong[0][:50]!r} is no name of a parameter.", hint="Use a Python name.")
    lines = [f"{name} = {_literal(name, value)}" for name, value in parameters.items()]
    cell = nbformat.v4.new_code_cell("\n".join(["# Parameters", *lines]), metadata={"tags": [INJECTED]})
    kept = [found for found in notebook.cells if INJECTED not in found.metadata.get("tags", [])]
    place = next((n + 1 for n, found in enumerate(kept) if TAG in found.metadata.get("tags", [])), 0)
    notebook.cells = [*kept[:place], cell, *kept[place:]]


def render_page(notebook: Foreign, title: str) -> str:  # nbformat's node
    """Return a notebook as one HTML page: texts are escaped, pictures inside, nothing in it runs."""
    body = "\n".join(part for cell in notebook.cells for part in _render_cell(cell))
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>\n{body}\n"
    )


def _render_cell(cell: Foreign) -> Iterator[str]:  # nbformat's node
    if cell.cell_type != "code":
        yield f"<div><pre class=out>{html.escape(cell.source)}</pre></div>"
        return
    yield f"<pre>{html.escape(cell.source)}</pre>"
    for output in cell.outputs:
        if output.output_type == "stream":
            yield f"<pre class=out>{html.escape(output.text)}</pre>"
        elif output.output_type == "error":
            yield f"<pre class=error>{html.escape(f'{output.ename}: {output.evalue}')}</pre>"
        elif "image/png" in output.data:
            picture = html.escape("".join(output.data["image/png"]).replace("\n", ""), quote=True)
            yield f'<img alt="" src="data:image/png;base64,{picture}">'
        elif "text/plain" in output.data:
            yield f"<pre class=out>{html.escape(output.data['text/plain'])}</pre>"


def _literal(name: str, value: object) -> str:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return f"float({str(value)!r})"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(name, entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{str(key)!r}: {_literal(name, entry)}" for key, entry in value.items()) + "}"
    raise InvalidInput(f"Parameter {name!r} is a {type(value).__name__}.", hint="Use what JSON has.")


def _import_notebooks() -> tuple[Any, Any]:
    try:
        import ipykernel  # noqa: F401 - the notebook's kernel
        import nbclient
        import nbformat
    except ImportError as error:
        raise Unavailable(f"Running notebooks needs {error.name}.", hint="pip install nbclient ipykernel") from error
    return nbclient, nbformat
