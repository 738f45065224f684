"""Whatever the protocol and form, the log holds the values that were sent and the answer that was given."""

from __future__ import annotations

import json
import urllib.request

import pytest

from mainspring.serving import find_record


def _post(url: str, document: object, id: str, separators: tuple[str, str] | None) -> dict:
    body = json.dumps(document, separators=separators).encode()
    headers = {"Content-Type": "application/json", "x-request-id": id}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
        assert response.headers["x-request-id"] == id
        return json.loads(response.read())


@pytest.mark.parametrize("separators", [None, (",", ":"), (" ,\n", ":\t")])
@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("form", ["v1", "v1 with parameters", "v2", "v2 nested", "v2 with outputs", "split"])
def test_the_log_holds_what_was_sent(endpoint, cancer, form, count, separators):
    frame = cancer[0][:count]
    rows = frame.to_numpy().tolist()
    rows[0][0] = 18
    rows[-1][1] = 1.5e-7
    flat = [value for row in rows for value in row]
    tensor = {"name": "input", "shape": [count, 30], "datatype": "FP64", "data": flat}
    path, document = {
        "v1": ("/v1/models/cancer:predict", {"instances": rows}),
        "v1 with parameters": ("/v1/models/cancer:predict", {"instances": rows, "parameters": {"x": [[1]]}}),
        "v2": ("/v2/models/cancer/infer", {"inputs": [tensor]}),
        "v2 nested": ("/v2/models/cancer/infer", {"inputs": [tensor | {"data": rows}]}),
        "v2 with outputs": ("/v2/models/cancer/infer", {"inputs": [tensor], "outputs": [{"name": "predict"}]}),
        "split": ("/invocations", {"dataframe_split": {"columns": list(frame.columns), "data": rows}}),
    }[form]
    id = f"{form.replace(' ', '-')}-{count}-{len(str(separators))}"
    answer = _post(endpoint.url + path, document, id, separators)
    record = find_record(endpoint.folder / "predictions", id)
    assert record is not None
    assert (record.status, record.rows, record.version) == (200, count, record.digest.removeprefix("sha256:")[:12])
    assert record.inputs == {name: [row[place] for row in rows] for place, name in enumerate(frame.columns)}
    assert record.outputs == (answer["outputs"][0]["data"] if form.startswith("v2") else answer["predictions"])
