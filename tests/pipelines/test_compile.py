"""Compiling a project's pipeline file."""

from __future__ import annotations

import pytest

from mainspring.core import InvalidInput, NotFound
from mainspring.pipelines import compile_pipeline, read_compiled
from mainspring.pipelines.ir import read_pipeline

FILE = """
from kfp import dsl
from parts import word

@dsl.component
def say() -> str:
    return "x"

@dsl.pipeline(name=word)
def talk():
    say()
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pipelines.py").write_text(FILE)
    (tmp_path / "parts.py").write_text("word = 'one'\n")
    return tmp_path


def test_a_pipeline_is_compiled_once_and_again_when_a_file_it_imports_changes(project):
    first = compile_pipeline(project, "pipelines.py", "talk", project / "cache")
    written = {path: path.stat().st_mtime_ns for path in (project / "cache").rglob("*")}
    again = compile_pipeline(project, "pipelines.py", "talk", project / "cache")
    assert written == {path: path.stat().st_mtime_ns for path in (project / "cache").rglob("*")}
    assert first == again
    assert first.name == "one"
    (project / "parts.py").write_text("word = 'two'\n")
    assert compile_pipeline(project, "pipelines.py", "talk", project / "cache").name == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def talk(:\n", "line 1: SyntaxError"),
        ("x = 1\nimport nothing_like_it\n", "line 2: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("x = 1\n", "there is no 'talk' in it"),
    ],
)
def test_a_broken_file_is_one_clear_line(project, text, message):
    (project / "pipelines.py").write_text(text)
    with pytest.raises(InvalidInput, match=message) as broken:
        compile_pipeline(project, "pipelines.py", "talk", project / "cache")
    assert "\n" not in str(broken.value)


def test_a_file_means_the_pipeline_that_uses_the_others_or_its_only_component(project):
    inner = FILE.replace("name=word", "name='the inner'")
    outer = "@dsl.pipeline\ndef whole():\n    talk()\n"
    (project / "pipelines.py").write_text(inner + outer)
    assert compile_pipeline(project, "pipelines.py", "", project / "cache").name == "whole"
    (project / "pipelines.py").write_text(FILE.partition("@dsl.pipeline")[0])
    assert compile_pipeline(project, "pipelines.py", "", project / "cache").name == "say"


def test_a_missing_file_is_named(project):
    with pytest.raises(NotFound, match=r"other\.py"):
        compile_pipeline(project, "other.py", "talk", project / "cache")


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"{", b"a: [", b"root: {}", b'{"pipelineInfo": {"name": "p"}, "root": {"dag": {"tasks": 3}}}']
)
def test_what_is_not_a_compiled_pipeline_is_refused(data):
    with pytest.raises(InvalidInput):
        read_compiled(data)


def test_whole_doubles_are_ints_at_every_depth():
    root = b'{"inputDefinitions": {"parameters": {"x": {"defaultValue": {"a": [1.0, 2.5]}}}}}'
    text = b'{"pipelineInfo": {"name": "p"}, "root": ' + root + b"}"
    default = read_pipeline(text).root.input_definitions.parameters["x"].default_value
    assert repr(default) == "{'a': [1, 2.5]}"
