"""Every signature MLflow writes becomes a plan."""

from __future__ import annotations

import json

import pytest

from mainspring.core import Refused
from mainspring.serving.mlmodel import Signature
from mainspring.serving.plan import Column, DataType, Param, Property, Tensor, describe_inputs, make_plan, matrix_plan
from mainspring.serving.signature import compile_signature


def _compile(inputs, params=None):
    text = None if params is None else json.dumps(params)
    return compile_signature(Signature(inputs=json.dumps(inputs), params=text), "m")


def test_mlflows_own_signature_of_every_type_is_compiled():
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, Map, Object, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Property as MlflowProperty

    plain = ["string", "double", "float", "long", "integer", "boolean", "datetime", "binary"]
    columns = [ColSpec(kind, kind) for kind in plain]
    columns += [
        ColSpec(Array("double"), "array"),
        ColSpec(Object([MlflowProperty("x", "string", required=False)]), "object"),
        ColSpec(Map("long"), "map"),
        ColSpec(AnyType(), "any"),
        ColSpec("double", "optional", required=False),
    ]
    params = ParamSchema([ParamSpec("t", "double", 1.0), ParamSpec("stops", "string", ["a"], (-1,))])
    written = ModelSignature(Schema(columns), params=params).to_dict()
    plan = compile_signature(Signature(inputs=written["inputs"], params=written["params"]), "m")
    assert [column.type for column in plan.columns] == [*plain, "array", "object", "map", "any", "double"]
    assert plan.by_name["array"].nested == DataType(kind="array", items=DataType(kind="double"))
    assert plan.by_name["object"].nested.properties == {"x": Property(type=DataType(kind="string"), required=False)}
    assert plan.by_name["map"].nested.items == DataType(kind="long")
    assert not plan.by_name["optional"].required
    assert plan.params == (
        Param(name="t", type="double", default=1.0),
        Param(name="stops", type="string", default=["a"], shape=(-1,)),
    )


def test_tensors_named_and_not_are_compiled():
    spec = {"dtype": "float32", "shape": [-1, 28, 28]}
    (tensor,) = _compile([{"type": "tensor", "tensor-spec": spec}]).tensors
    assert tensor == Tensor(name="input", dtype="float32", shape=(-1, 28, 28))
    two = _compile(
        [{"type": "tensor", "name": name, "tensor-spec": {"dtype": "object", "shape": [1]}} for name in "ab"]
    )
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in two.tensors] == [
        ("a", "str", (-1,)),
        ("b", "str", (-1,)),
    ]


def test_columns_without_names_are_called_by_their_place():
    plan = _compile([{"type": "double"}, {"type": "double"}])
    assert (plan.names, plan.has_names, plan.is_numeric) == (("0", "1"), False, True)


@pytest.mark.parametrize("signature", [None, Signature(), Signature(inputs="")])
def test_a_model_without_a_signature_has_no_plan_from_it(signature):
    assert compile_signature(signature, "m") is None


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        {"a": 1},
        [1],
        [{"name": "a"}],
        [{"name": "a", "type": "quaternion"}],
        [{"name": "a", "type": "double"}] * 2,
        [{"name": "a", "type": "double"}, {"type": "double"}],
        [{"type": "tensor"}],
        [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": []}}],
        [{"type": "tensor", "tensor-spec": {"dtype": "complex64", "shape": [-1]}}],
        [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, -5]}}],
        [{"name": "a", "type": "array"}],
        [{"name": "a", "type": "double"}, {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}],
    ],
)
def test_a_signature_that_is_not_mlflows_is_refused(inputs):
    with pytest.raises(Refused, match="signature"):
        _compile(inputs)


def test_types_nested_without_end_are_refused():
    entry = {"type": "double"}
    for _ in range(60):
        entry = {"type": "array", "items": entry}
    with pytest.raises(Refused, match="nested too deeply"):
        _compile([entry | {"name": "a"}])


def test_inputs_are_described_in_the_protocols_words():
    plan = make_plan([Column(name="a", type="double"), Column(name="b", type="string"), Column(name="c", type="long")])
    assert [(one.name, one.datatype, one.shape) for one in describe_inputs(plan)] == [
        ("a", "FP64", [-1]),
        ("b", "BYTES", [-1]),
        ("c", "INT64", [-1]),
    ]
    (tensor,) = describe_inputs(matrix_plan(4))
    assert (tensor.name, tensor.datatype, tensor.shape) == ("input", "FP64", [-1, 4])
