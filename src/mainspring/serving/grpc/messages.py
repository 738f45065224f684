"""The messages of the Open Inference Protocol's gRPC service, described here and made into classes at run time.

A pool of our own holds them: clients in the same process may bring the same names in the default one. Nothing is
generated, so there is nothing to generate again. Source: the protocol's ``grpc_predict_v2.proto`` and the repository
extension of the same package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from mainspring.core import Foreign

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_F = FieldDescriptorProto
_SCALARS = {
    "bool": _F.TYPE_BOOL,
    "int32": _F.TYPE_INT32,
    "int64": _F.TYPE_INT64,
    "uint32": _F.TYPE_UINT32,
    "uint64": _F.TYPE_UINT64,
    "float": _F.TYPE_FLOAT,
    "double": _F.TYPE_DOUBLE,
    "string": _F.TYPE_STRING,
    "bytes": _F.TYPE_BYTES,
}
_TENSOR = "name:1:string datatype:2:string shape:3:int64* parameters:4:{InferParameter}"
_METADATA = "name:1:string datatype:2:string shape:3:int64*"
_ONE = "bool_param:1:bool| int64_param:2:int64| string_param:3:string| double_param:4:double| uint64_param:5:uint64|"
_CONTENTS = (
    "bool_contents:1:bool* int_contents:2:int32* int64_contents:3:int64* uint_contents:4:uint32* "
    "uint64_contents:5:uint64* fp32_contents:6:float* fp64_contents:7:double* bytes_contents:8:bytes*"
)
_MODEL = "name:1:string version:2:string"
_MESSAGES = {
    "InferParameter": _ONE,
    "InferTensorContents": _CONTENTS,
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1:bool",
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": "ready:1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1:string version:2:string extensions:3:string*",
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": (
        "name:1:string versions:2:string* platform:3:string inputs:4:ModelMetadataResponse.TensorMetadata* "
        "outputs:5:ModelMetadataResponse.TensorMetadata*"
    ),
    "ModelMetadataResponse.TensorMetadata": _METADATA,
    "ModelInferRequest": (
        "model_name:1:string model_version:2:string id:3:string parameters:4:{InferParameter} "
        "inputs:5:ModelInferRequest.InferInputTensor* outputs:6:ModelInferRequest.InferRequestedOutputTensor* "
        "raw_input_contents:7:bytes*"
    ),
    "ModelInferRequest.InferInputTensor": f"{_TENSOR} contents:5:InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "name:1:string parameters:2:{InferParameter}",
    "ModelInferResponse": (
        "model_name:1:string model_version:2:string id:3:string parameters:4:{InferParameter} "
        "outputs:5:ModelInferResponse.InferOutputTensor* raw_output_contents:6:bytes*"
    ),
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR} contents:5:InferTensorContents",
    "RepositoryIndexRequest": "repository_name:1:string ready:2:bool",
    "RepositoryIndexResponse": "models:1:RepositoryIndexResponse.ModelIndex*",
    "RepositoryIndexResponse.ModelIndex": "name:1:string version:2:string state:3:string reason:4:string",
    "RepositoryModelLoadRequest": "repository_name:1:string model_name:2:string",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "repository_name:1:string model_name:2:string",
    "RepositoryModelUnloadResponse": "",
}
"""Fields as ``name:number:type``; ``*`` repeated, ``|`` one of several, ``{T}`` a map from strings."""
METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)


@dataclass(frozen=True, slots=True)
class Messages:
    """The message classes by name."""

    by_name: dict[str, Any]

    def __getattr__(self, name: str) -> Foreign:  # classes that only exist at run time
        return self.by_name[name]


@cache
def load_messages() -> Messages:
    """Make the classes of all messages."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(describe())
    classes = message_factory.GetMessageClassesForFiles([_FILE], pool)
    return Messages({name.removeprefix(f"{PACKAGE}."): kind for name, kind in classes.items()})


_FILE = "mainspring/open_inference.proto"


def describe() -> FileDescriptorProto:
    """Return the description of the file, as ``protoc`` would."""
    file = FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    described: dict[str, DescriptorProto] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = described[outer].nested_type.add() if outer else file.message_type.add()
        message.name = inner
        described[name] = message
        for text in fields.split():
            _describe_field(message, name, text)
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for method in METHODS:
        request, response = f".{PACKAGE}.{method}Request", f".{PACKAGE}.{method}Response"
        service.method.add(name=method, input_type=request, output_type=response)
    return file


def _describe_field(message: DescriptorProto, owner: str, text: str) -> None:
    name, number, kind = text.split(":")
    if kind.startswith("{"):
        _describe_map(message, name, kind.strip("{}"))
        kind = f"{owner}.{_entry(name)}*"
    field = message.field.add(name=name, number=int(number), json_name=name)
    field.label = _F.LABEL_REPEATED if kind.endswith("*") else _F.LABEL_OPTIONAL
    if kind.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    _set_type(field, kind.strip("*|"))


def _describe_map(message: DescriptorProto, name: str, value: str) -> None:
    entry = message.nested_type.add(name=_entry(name))
    entry.options.map_entry = True
    _set_type(entry.field.add(name="key", number=1, label=_F.LABEL_OPTIONAL), "string")
    _set_type(entry.field.add(name="value", number=2, label=_F.LABEL_OPTIONAL), value)


def _set_type(field: FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _F.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


def _entry(name: str) -> str:
    return f"{name.title().replace('_', '')}Entry"
