"""Notebooks and Beam pipelines: other people's code, run as a step."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

from mainspring.components import beam_command, run_beam_script, run_notebook_file
from mainspring.components.notebooks import inject_parameters, render_page
from mainspring.core import InvalidInput, NotFound, Refused, Unavailable


def notebook(path: Path, *cells: str, tagged: str = "") -> str:
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    if tagged:
        made.insert(0, nbformat.v4.new_code_cell(tagged, metadata={"tags": ["parameters"]}))
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return str(path)


def test_a_notebook_runs_with_its_parameters_and_what_ran_is_kept(tmp_path: Path, file) -> None:
    """Given values replace the defaults; of a notebook that fails the cells up to the failure are kept too."""
    text = 'it\'s "</pre><script>" {nothing}\n'
    path = notebook(tmp_path / "n.ipynb", "print(rate * 2, words, text, flag)", "1 / (rate - 0.25)", tagged="rate = 1")
    executed, page = file("executed"), file("page")
    given = {"rate": 0.25, "words": ["a", None], "text": text, "flag": True}
    with pytest.raises(Refused, match="ZeroDivisionError"):
        run_notebook_file(path, parameters=given, executed=executed, page=page)
    kept = nbformat.read(executed.path, as_version=4)
    assert kept.cells[2].outputs[0].text == f"0.5 ['a', None] {text} True\n"
    assert kept.cells[1].metadata.tags == ["injected-parameters"]
    shown = Path(page.path).read_text()
    assert "<script>" not in shown
    assert "ZeroDivisionError" in shown
    assert "0.5 [" in shown


def test_parameters_come_first_without_a_tagged_cell_and_once_only() -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")])
    inject_parameters(made, {"x": 1})
    inject_parameters(made, {"x": {"a": [float("nan")]}})
    assert [cell.source for cell in made.cells] == ["# Parameters\nx = {'a': [float('nan')]}", "x"]
    with pytest.raises(InvalidInput, match="no name of a parameter"):
        inject_parameters(made, {"x = 1; import os; y": 1})


def test_a_page_shows_pictures_and_runs_nothing() -> None:
    data = {"image/png": "aGk=\n", "text/html": "<script>1</script>"}
    cell = nbformat.v4.new_code_cell("plot()", outputs=[nbformat.v4.new_output("display_data", data)])
    shown = render_page(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# <b>"), cell]), "<t>")
    assert 'src="data:image/png;base64,aGk="' in shown
    assert "<script>" not in shown
    assert "<b>" not in shown


def test_what_is_no_notebook_is_named(tmp_path: Path, file) -> None:
    with pytest.raises(NotFound):
        run_notebook_file(str(tmp_path / "none.ipynb"), parameters={}, executed=file("e"), page=file("p"))


def test_the_command_of_a_beam_pipeline() -> None:
    options = {"input": "a b.txt", "streaming": True, "quiet": False, "none": None, "n": 3, "experiments": ["x", "y"]}
    assert beam_command("count.py", options=options, python="py") == [
        "py", "count.py", "--runner=DirectRunner", "--input=a b.txt", "--streaming", "--n=3", "--experiments=x",
        "--experiments=y",
    ]  # fmt: skip
    assert beam_command("c.py", options={}, runner="FlinkRunner")[0] == sys.executable
    for script, wrong in (("c.py", {"-x": 1}), ("c.py", {"a b": 1}), ("c.py", {"runner": "x"}), ("-c", {})):
        with pytest.raises(InvalidInput):
            beam_command(script, options=wrong)


def test_without_beam_the_remedy_is_named_and_nothing_runs(tmp_path: Path, file) -> None:
    script, touched = tmp_path / "s.py", tmp_path / "touched"
    script.write_text(f"open({str(touched)!r}, 'w')")
    with pytest.raises(Unavailable, match="pip install apache-beam"):
        run_beam_script(str(script), options={}, log=file("log"))
    assert not touched.exists()
    with pytest.raises(NotFound, match="no interpreter"):
        run_beam_script(str(script), options={}, log=file("log"), python=str(tmp_path / "python"))
    with pytest.raises(NotFound, match="no script"):
        run_beam_script(str(tmp_path / "none.py"), options={}, log=file("log"))
