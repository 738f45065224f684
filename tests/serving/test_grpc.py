"""The gRPC service, called with Triton's own client and by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from mainspring.serving import find_records, read_records
from mainspring.serving.app import App, AppOptions
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.grpc import GrpcOptions, start_grpc
from mainspring.serving.grpc.messages import METHODS, SERVICE, describe, load_messages

NAME = "flights"


class Running:
    """An endpoint with a gRPC server in a thread of its own."""

    def __init__(self, folder, clock, **options) -> None:
        self.folder = folder
        self.clock = clock
        self.options = options
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.ready.wait(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.endpoint = Endpoint(NAME, self.folder, self.clock)
        self.endpoint.reload()
        self.server = await start_grpc(App(self.endpoint, AppOptions()), GrpcOptions(**self.options))
        self.port = self.server.port
        self.stopping = asyncio.Event()
        self.ready.set()
        await self.stopping.wait()
        await self.server.stop(1)
        self.endpoint.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)


@pytest.fixture
def start(tmp_path, deploy, clock) -> Iterator:
    running = []

    def run(**options) -> Running:
        deploy(tmp_path)
        running.append(Running(tmp_path, clock, **options))
        return running[-1]

    yield run
    for one in running:
        one.stop()


@pytest.fixture
def server(start) -> Running:
    return start()


@pytest.fixture
def client(server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def _inputs(rows) -> list:
    inputs = []
    for name, datatype, kind in (
        ("carrier", "BYTES", object),
        ("month", "INT64", np.int64),
        ("distance", "FP64", np.float64),
        ("temp", "FP64", np.float64),
    ):
        values = np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=kind)
        tensor = triton.InferInput(name, [len(rows)], datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


def _call(server, method, request, **options):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        response = load_messages().by_name[f"{method}Response"]
        call = channel.unary_unary(
            f"/{SERVICE}/{method}", request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )  # fmt: skip
        return call(request, **options)


def _typed(rows, **fields):
    request = load_messages().ModelInferRequest(model_name=NAME, **fields)
    for name, datatype, contents in (
        ("carrier", "BYTES", {"bytes_contents": [row["carrier"].encode() for row in rows]}),
        ("month", "INT64", {"int64_contents": [row["month"] for row in rows]}),
        ("distance", "FP64", {"fp64_contents": [row["distance"] for row in rows]}),
    ):
        request.inputs.add(name=name, datatype=datatype, shape=[len(rows)], contents=contents)
    return request


def test_our_messages_are_those_of_the_protocol():
    theirs = {message.name: message for message in service_pb2.DESCRIPTOR.message_types_by_name.values()}
    for message in describe().message_type:
        fields = {field.name: (field.number, field.type) for field in theirs[message.name].fields}
        for field in message.field:
            assert fields[field.name] == (field.number, field.type), (message.name, field.name)
    assert {method.name for method in describe().service[0].method} == set(METHODS)


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert client.get_server_metadata().name == "mainspring"
    metadata = client.get_model_metadata(NAME, as_json=True)
    assert metadata["name"] == NAME
    assert metadata["versions"] == ["1"]
    assert {"name": "distance", "datatype": "FP64", "shape": ["-1"]} in metadata["inputs"]
    index = client.get_model_repository_index(as_json=True)
    assert index["models"][0]["state"] == "READY"


def test_triton_predicts_with_raw_tensors_and_the_request_is_logged(client, server, rows):
    result = client.infer(NAME, _inputs(rows), request_id="mine-1", headers={"x-split-key": "k"})
    scores = result.as_numpy("predict")
    assert scores.shape == (3,)
    assert ((scores > 0) & (scores < 1)).all()
    assert result.get_response().id == "mine-1"
    assert result.get_response().model_version == "1"
    (record,) = find_records(server.folder / "predictions", "mine-1")
    assert (record.protocol, record.status, record.rows, record.split_key) == ("grpc", 200, 3, "k")
    assert record.outputs == scores.tolist()
    assert record.inputs["carrier"] == ["UA", "B6", "ZZ"]


def test_typed_contents_get_typed_answers_like_the_raw_ones(client, server, rows):
    answer = _call(server, "ModelInfer", _typed(rows, id="typed"))
    assert not answer.raw_output_contents
    raw = client.infer(NAME, [one for one in _inputs(rows) if one.name() != "temp"]).as_numpy("predict")
    assert list(answer.outputs[0].contents.fp64_contents) == raw.tolist()
    assert answer.id == "typed"


def test_a_trace_goes_into_the_record_and_the_answer_names_the_request(server, rows):
    request = load_messages().ModelInferRequest
    trace = "0af7651916cd43dd8448eb211c80319c"
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=request.SerializeToString)
        metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"), ("x-request-id", "traced"))
        _, done = call.with_call(_typed(rows), metadata=metadata)
    trailing = dict(done.trailing_metadata())
    assert trailing["x-request-id"] == "traced"
    assert trailing["x-model-version"] == "1"
    (record,) = find_records(server.folder / "predictions", "traced")
    assert record.trace_id == trace


def _break(change):
    def make(rows):
        request = _typed(rows)
        change(request)
        return request

    return make


BROKEN = {
    "unknown model": (_break(lambda r: setattr(r, "model_name", "none")), "NOT_FOUND"),
    "unknown version": (_break(lambda r: setattr(r, "model_version", "9")), "NOT_FOUND"),
    "missing input": (_break(lambda r: r.inputs.pop()), "INVALID_ARGUMENT"),
    "no inputs": (_break(lambda r: r.ClearField("inputs")), "INVALID_ARGUMENT"),
    "twice": (_break(lambda r: r.inputs.add().CopyFrom(r.inputs[0])), "INVALID_ARGUMENT"),
    "wrong shape": (_break(lambda r: r.inputs[1].shape.__setitem__(0, 7)), "INVALID_ARGUMENT"),
    "negative shape": (_break(lambda r: r.inputs[1].shape.__setitem__(0, -3)), "INVALID_ARGUMENT"),
    "huge shape": (_break(lambda r: r.inputs[1].shape.__setitem__(0, 2**62)), "INVALID_ARGUMENT"),
    "unknown type": (_break(lambda r: setattr(r.inputs[1], "datatype", "INT7")), "INVALID_ARGUMENT"),
    "wrong field": (_break(lambda r: setattr(r.inputs[1], "datatype", "FP32")), "INVALID_ARGUMENT"),
    "typed FP16": (_break(lambda r: setattr(r.inputs[1], "datatype", "FP16")), "INVALID_ARGUMENT"),
    "raw and typed": (_break(lambda r: r.raw_input_contents.append(b"1234")), "INVALID_ARGUMENT"),
    "not UTF-8": (
        _break(lambda r: r.inputs[0].contents.bytes_contents.__setitem__(0, b"\xff")), "INVALID_ARGUMENT",
    ),
    "unknown output": (_break(lambda r: r.outputs.add(name="none")), "INVALID_ARGUMENT"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory, model_folder):
    """One server for calls that change nothing."""
    from mainspring.core import FixedClock
    from mainspring.serving import Deployment, ModelReference, Variant, write_deployment
    from mainspring.serving.mlmodel import tree_digest

    folder = tmp_path_factory.mktemp("grpc")
    model = ModelReference(name=NAME, version="1", digest=tree_digest(model_folder), folder=str(model_folder))
    variants = [Variant(name="champion", weight=100, model=model)]
    write_deployment(folder / "deployment.json", Deployment(endpoint=NAME, revision=1, variants=variants))
    running = Running(folder, FixedClock(), max_message=1 << 20)
    yield running
    running.stop()


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_call_is_said_in_grpcs_own_words(shared, rows, case):
    make, status = BROKEN[case]
    with pytest.raises(grpc.RpcError) as caught:
        _call(shared, "ModelInfer", make(rows))
    assert caught.value.code().name == status
    assert 0 < len(caught.value.details()) < 2_000


def test_bytes_that_are_no_message_and_messages_that_are_too_large_are_refused(shared):
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(2 << 20))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/Surprise")(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_models_are_not_loaded_on_the_data_plane(shared):
    with triton.InferenceServerClient(f"127.0.0.1:{shared.port}") as client:
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="PERMISSION_DENIED"):
                change(NAME)


def test_a_token_is_asked_for_except_by_probes(start, rows):
    server = start(token="secret")
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.infer(NAME, _inputs(rows))
        headers = {"authorization": "Bearer secret"}
        assert client.infer(NAME, _inputs(rows), headers=headers).as_numpy("predict").shape == (3,)


def test_a_call_whose_deadline_passes_is_not_predicted(server, rows, monkeypatch):
    model = server.endpoint.router.variants[0].model
    slow = threading.Event()

    def predict(checked):
        slow.wait(1)
        raise AssertionError("nobody waits for this")

    monkeypatch.setattr("mainspring.serving.batcher.call_methods", lambda *given: predict(given))
    object.__setattr__(model, "is_quick", False)
    with pytest.raises(grpc.RpcError) as caught:
        _call(server, "ModelInfer", _typed(rows), timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    slow.set()


def test_calls_at_the_same_time_share_batches(server, rows):
    def work():
        for _ in range(20):
            _call(server, "ModelInfer", _typed(rows))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.05)
    records = list(read_records(server.folder / "predictions", 0, 2**60))
    assert len(records) == 120
    assert {record.status for record in records} == {200}
