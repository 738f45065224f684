"""Triton's HTTP client, unchanged: JSON and binary tensors, compressed and not."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(endpoint):
    with triton.InferenceServerClient(endpoint.address) as found:
        yield found


@pytest.fixture
def rows(cancer):
    return cancer[0].to_numpy()[:7]


@pytest.fixture
def classes(cancer):
    frame, model = cancer
    return model.predict(frame[:7]).tolist()


def _matrix(rows, datatype="FP64", *, binary=True):
    tensor = triton.InferInput("input", list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return [tensor]


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cancer")
    assert client.get_server_metadata()["name"] == "mainspring"
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("cancer")
    assert len(metadata["inputs"]) == 30
    version = metadata["versions"][0]
    assert client.is_model_ready("cancer", version)
    assert client.get_model_metadata("cancer", version)["name"] == "cancer"
    assert client.get_model_repository_index() == [
        {"name": "cancer", "version": version, "state": "READY", "reason": ""}
    ]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
@pytest.mark.parametrize("up", [None, "gzip", "deflate"])
def test_infer_every_way(client, rows, classes, binary_in, binary_out, up):
    wanted = [triton.InferRequestedOutput("predict", binary_data=binary_out)]
    result = client.infer(
        "cancer",
        _matrix(rows, binary=binary_in),
        outputs=wanted,
        request_id="call-7",
        request_compression_algorithm=up,
        response_compression_algorithm=up,
    )
    assert result.as_numpy("predict").tolist() == classes
    assert result.get_response()["id"] == "call-7"


def test_infer_without_naming_outputs_is_binary(client, rows, classes):
    assert client.infer("cancer", _matrix(rows)).as_numpy("predict").tolist() == classes


def test_probabilities_by_name(client, rows, cancer):
    frame, model = cancer
    wanted = [triton.InferRequestedOutput(name) for name in ("predict", "predict_proba")]
    result = client.infer("cancer", _matrix(rows), outputs=wanted)
    np.testing.assert_allclose(result.as_numpy("predict_proba"), model.predict_proba(frame[:7]), atol=1e-12)
    assert result.as_numpy("predict").tolist() == model.predict(frame[:7]).tolist()


def test_one_tensor_per_column(client, cancer, classes):
    inputs = []
    for name in reversed(cancer[0].columns):
        tensor = triton.InferInput(name, [7, 1], "FP64")
        tensor.set_data_from_numpy(cancer[0][[name]].to_numpy()[:7])
        inputs.append(tensor)
    assert client.infer("cancer", inputs).as_numpy("predict").tolist() == classes


def test_single_precision_and_the_version_in_the_path(client, rows, classes):
    version = client.get_model_metadata("cancer")["versions"][0]
    result = client.infer("cancer", _matrix(rows.astype(np.float32), "FP32"), model_version=version)
    assert result.as_numpy("predict").tolist() == classes


def test_requests_side_by_side(endpoint, rows, classes):
    with triton.InferenceServerClient(endpoint.address, concurrency=8) as client:
        waiting = [client.async_infer("cancer", _matrix(rows[n % 7 : n % 7 + 1])) for n in range(64)]
        answers = [one.get_result().as_numpy("predict").tolist() for one in waiting]
    assert answers == [[classes[n % 7]] for n in range(64)]


@pytest.mark.parametrize(
    ("model", "version", "shape", "words"),
    [
        ("nobody", "", (1, 30), "no such"),
        ("cancer", "99", (1, 30), "does not serve"),
        ("cancer", "", (1, 29), "29 columns, expected 30"),
        ("cancer", "", (0, 30), "no rows"),
    ],
)
def test_mistakes_are_explained(client, model, version, shape, words):
    with pytest.raises(InferenceServerException, match=words):
        client.infer(model, _matrix(np.zeros(shape)), model_version=version)


def test_an_unknown_output_and_a_load_are_refused(client, rows):
    with pytest.raises(InferenceServerException, match="no output of that name"):
        client.infer("cancer", _matrix(rows), outputs=[triton.InferRequestedOutput("nothing")])
    with pytest.raises(InferenceServerException, match="not loaded here"):
        client.load_model("cancer")


def test_a_raw_request_is_one_row(endpoint, rows, classes):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port)
    headers = {"Inference-Header-Content-Length": "0"}
    connection.request("POST", "/v2/models/cancer/infer", rows[2].tobytes(), headers)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200
    size = int(response.headers["Inference-Header-Content-Length"])
    assert np.frombuffer(body[size:], dtype=np.int64).tolist() == [classes[2]]
