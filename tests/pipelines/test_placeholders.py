"""Placeholders in constants and in the command lines of containers."""

from __future__ import annotations

import msgspec
import pytest

from mainspring.core import InvalidInput
from mainspring.pipelines.placeholders import (
    Lookup,
    check_command,
    expand_variables,
    fill_placeholders,
    fill_words,
    local_path,
)
from mainspring.pipelines.plan import Interface, Parameter

DOCUMENT = {
    "inputs": {
        "parameterValues": {"n": 3},
        "artifacts": {"i": {"artifacts": [{"name": "in", "uri": "gs://b/x", "metadata": {"k": 1.5, "s": "t"}}]}},
    },
    "outputs": {
        "parameters": {"p": {"outputFile": "/out/p"}},
        "artifacts": {"m": {"artifacts": [{"name": "m", "uri": "/out/m", "metadata": {}}]}},
        "outputFile": "/out/executor_output.json",
    },
}
LOOKUP = Lookup(
    parameters={"n": 3, "text": "it's {{$.inputs.parameters['n']}}", "list": [1, {"a": 2}], "none": None},
    job={"pipeline_job_name": "job", "pipeline_root": "/root"},
    executor_input=DOCUMENT,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{$.inputs.parameters['n']}}", 3),
        ('{{$.inputs.parameters["n"]}}', 3),
        ("<{{$.inputs.parameters['n']}}>", "<3>"),
        ("{{$.inputs.parameters['list']}}", [1, {"a": 2}]),
        ("x{{$.inputs.parameters['list']}}", 'x[1,{"a":2}]'),
        ("{{$.inputs.parameters['text']}}", "it's {{$.inputs.parameters['n']}}"),
        ("{{$.inputs.parameters['n']}}{{$.inputs.parameters['n']}}", "33"),
        ("{{$.inputs.artifacts['i'].uri}}", "gs://b/x"),
        ("{{$.inputs.artifacts['i'].path}}", "/gcs/b/x"),
        ("{{$.inputs.artifacts['i'].name}}", "in"),
        ("{{$.inputs.artifacts['i'].metadata['k']}}", 1.5),
        ("m={{$.inputs.artifacts['i'].metadata}}", 'm={"k":1.5,"s":"t"}'),
        ("{{$.outputs.artifacts['m'].path}}", "/out/m"),
        ("{{$.outputs.parameters['p'].output_file}}", "/out/p"),
        ("{{$.outputs.output_file}}", "/out/executor_output.json"),
        ("{{$.outputMetadataUri}}", "/out/executor_output.json"),
        ("{{$.pipeline_job_name}} {{$.pipeline_root}}", "job /root"),
        ({"a": ["{{$.inputs.parameters['n']}}", "b"]}, {"a": [3, "b"]}),
        ("nothing to fill {x}", "nothing to fill {x}"),
    ],
)
def test_a_placeholder_is_filled_once_and_keeps_the_type_when_it_is_all(text, value):
    assert fill_placeholders(text, LOOKUP) == value


def test_the_whole_executor_input_is_json():
    assert msgspec.json.decode(fill_placeholders("{{$}}", LOOKUP)) == DOCUMENT


@pytest.mark.parametrize(
    "text",
    [
        "{{$.inputs.parameters['none']}}",
        "{{$.inputs.parameters['missing']}}",
        "{{$.inputs.artifacts['missing'].uri}}",
        "{{$.inputs.artifacts['i'].metadata['missing']}}",
        "{{$.outputs.parameters['missing'].output_file}}",
        "{{$.made_up}}",
    ],
)
def test_what_cannot_be_filled_is_named(text):
    with pytest.raises(InvalidInput, match="placeholder"):
        fill_placeholders(text, LOOKUP)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ('{"Concat": ["a", "{{$.inputs.parameters[\'n\']}}", {"Concat": ["b", "c"]}]}', ("a3bc",)),
        ('{"IfPresent": {"InputName": "n", "Then": ["--n", "{{$.inputs.parameters[\'n\']}}"]}}', ("--n", "3")),
        ('{"IfPresent": {"InputName": "i", "Then": "given", "Else": "not"}}', ("given",)),
        ('{"IfPresent": {"InputName": "none", "Then": ["--n"], "Else": ["no"]}}', ("no",)),
        ('{"IfPresent": {"InputName": "none", "Then": ["--n"]}}', ()),
        ('{"Concat": ["x", {"IfPresent": {"InputName": "none", "Then": "y", "Else": "z"}}]}', ("xz",)),
        ('{"some": "json"}', ('{"some": "json"}',)),
    ],
)
def test_concat_and_if_present_make_none_one_or_several_words(word, words):
    assert fill_words((word,), LOOKUP) == words


def test_what_is_not_given_stands_for_its_default():
    interface = Interface(
        parameters={
            "n": Parameter(type="NUMBER_INTEGER", default=9),
            "late": Parameter(type="LIST", default=["d"]),
            "none": Parameter(type="STRING", optional=True),
        },
        artifacts={},
        output_parameters={},
        output_artifacts={},
    )
    lookup = msgspec.structs.replace(LOOKUP, parameters=interface.with_defaults({"n": 3, "late": None}))
    present = '{"IfPresent": {"InputName": "%s", "Then": "y", "Else": "z"}}'
    choices = (present % name for name in interface.parameters)
    words = ("{{$.inputs.parameters['n']}}", "{{$.inputs.parameters['late']}}", *choices)
    assert fill_words(words, lookup) == ("3", '["d"]', "y", "y", "z")


def test_unknown_placeholders_in_a_command_are_found_before_the_run():
    command = (
        '{"Concat": ["{{$.inputs.parameters[\'x\']}}"]}',
        "{{$.inputs.artifacts['a'].uri}}",
        "{{$.nope}}",
        "{{$}}",
    )
    known = frozenset({"x"})
    assert check_command(command, known, known, frozenset()) == ["{{$.inputs.artifacts['a'].uri}}", "{{$.nope}}"]


def test_variables_refer_to_others_as_in_kubernetes():
    assert expand_variables("$(A)/$(B) $$(A) $A $(a-b.c)", {"A": "x", "a-b.c": "y"}) == "x/$(B) $(A) $A y"


def test_buckets_are_found_where_they_are_mounted():
    found = [local_path(uri) for uri in ("gs://b/k", "s3://b/k", "minio://b/k", "oci://b/k", "file:///a", "/a")]
    assert found == ["/gcs/b/k", "/s3/b/k", "/minio/b/k", "/oci/b/k", "/a", "/a"]
