"""What MLflow's own scoring server answers, an endpoint answers: the same models, the same bodies."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mainspring.core import FixedClock, Refused
from mainspring.serving import Deployment, ModelReference, Variant, write_deployment
from mainspring.serving.app import App, AppOptions
from mainspring.serving.endpoint import Endpoint, EndpointOptions
from mainspring.serving.http import Request
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.reader import read_records
from mainspring.serving.wire import Reply

pytestmark = pytest.mark.filterwarnings("ignore")
pd = pytest.importorskip("pandas")
pyfunc = pytest.importorskip("mlflow.pyfunc")

MIXED = pd.DataFrame(
    {
        "age": [79, 63, 54],
        "income": [1.5, None, 3.25],
        "city": ["Zürich", 'a,b "q"', "東京"],
        "member": [True, False, True],
    }
)
COLUMNS, ROWS = list(MIXED), [[None if one != one else one for one in row] for row in MIXED.astype(object).to_numpy()]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def _describe(model_input: Any) -> list[str]:
    """Say what came: a type, its columns and types, its values."""
    if isinstance(model_input, pd.DataFrame):
        head = f"{list(model_input.columns)} {list(map(str, model_input.dtypes))}"
        return [f"table {head} {list(map(repr, row))}" for row in model_input.astype(object).to_numpy().tolist()]
    if isinstance(model_input, np.ndarray):
        kind = f"array {model_input.dtype} {model_input.shape[1:]}"
        return [f"{kind} {row!r}" for row in np.atleast_1d(model_input).tolist()]
    if isinstance(model_input, dict):
        return [f"{name} {array.dtype} {array.tolist()}" for name, array in model_input.items()]
    return [repr(model_input)]


class Describe(pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return _describe(model_input)


class Answer(pyfunc.PythonModel):
    def __init__(self, answer):
        self.answer = answer

    def predict(self, context, model_input, params=None):
        return self.answer


class Served:
    """A model folder behind an endpoint in process, and behind MLflow's scoring server."""

    def __init__(self, folder: Path, work: Path, clock: FixedClock) -> None:
        reference = ModelReference(name="m", version="1", digest=tree_digest(folder), folder=str(folder))
        variant = Variant(name="champion", weight=100, mirror=False, model=reference)
        work.mkdir()
        write_deployment(work / "deployment.json", Deployment(endpoint="m", revision=1, variants=[variant]))
        self.work = work
        self.endpoint = Endpoint("m", work, clock, EndpointOptions(allow_pickle=True))
        self.endpoint.reload()
        assert self.endpoint.error == ""
        self._model = pyfunc.load_model(str(folder))
        self._app = App(self.endpoint, AppOptions())
        self._runner = asyncio.Runner()

    def post(self, path: str, body: bytes, kind: str = "application/json") -> Reply:
        async def send() -> Reply:
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._app.handle(Request("POST", path, {b"content-type": kind.encode()}, body), future.set_result)
            return await asyncio.wait_for(future, 20)

        return self._runner.run(send())

    def ask(self, document: object, path: str = "/invocations") -> Any:
        reply = self.post(path, json.dumps(document).encode())
        assert reply.status == 200, reply.body
        return json.loads(reply.body)["predictions"]

    def ask_mlflow(self, body: bytes, kind: str = "application/json") -> Any:
        from mlflow.pyfunc import scoring_server

        found = scoring_server.invocations(body, kind, self._model, self._model.metadata.get_input_schema())
        assert found.status == 200
        return json.loads(found.response)["predictions"]


@pytest.fixture
def serve(tmp_path: Path, clock: FixedClock) -> Callable[..., Served]:
    """Save a model and serve it: ``serve(model, signature=…)``; a Python model, or an estimator of scikit-learn."""

    def run(model: object, **options: Any) -> Served:
        import mlflow.sklearn

        name = f"{len(list(tmp_path.iterdir()))}"
        folder = tmp_path / f"model-{name}"
        if isinstance(model, pyfunc.PythonModel):
            pyfunc.save_model(folder, python_model=model, pip_requirements=["x"], **options)
        else:
            form = {"serialization_format": "cloudpickle", **options}
            mlflow.sklearn.save_model(model, folder, pip_requirements=["x"], **form)
        return Served(folder, tmp_path / f"work-{name}", clock)

    return run


def test_a_pyfunc_without_a_signature_gets_whatever_came_as_mlflow_gives_it(serve):
    served = serve(Describe())
    columns = {name: [row[name] for row in RECORDS] for name in COLUMNS}
    gaps = [[None, None, None, None], *ROWS[1:]]
    documents = [
        {"dataframe_split": {"columns": COLUMNS, "data": ROWS}},
        {"dataframe_split": {"columns": COLUMNS[::-1], "data": [row[::-1] for row in ROWS]}},
        {"dataframe_split": {"columns": COLUMNS, "data": gaps, "index": [7, 8, 9]}},
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_split": {"columns": [0, 1], "data": [[1, 2.5]]}},
        {"dataframe_records": RECORDS},
        {"dataframe_records": [{"a": 1}, {"a": 2, "b": "x"}]},
        {"instances": [RECORDS[0], RECORDS[2]]},
        {"instances": [[1, 2], [3, 4]]},
        {"instances": [[1.0, 2], [3, 4]]},
        {"instances": ["Zürich", "東京"]},
        {"inputs": columns},
        {"inputs": RECORDS[0]},
        {"inputs": RECORDS[:2]},
        {"inputs": [[[1, 2]], [[3, 4]]]},
        {"inputs": 5},
        {"inputs": {"a": 5, "b": "x"}},
        {"dataframe_records": RECORDS, "params": {"unknown": 1}},
    ]
    for document in documents:
        assert served.ask(document) == served.ask_mlflow(json.dumps(document).encode()), document
    text = MIXED.to_csv(index=False).encode()
    assert json.loads(served.post("/invocations", text, "text/csv").body)["predictions"] == served.ask_mlflow(
        text, "text/csv"
    )
    assert served.ask({"instances": RECORDS}, "/v1/models/m:predict") == served.ask({"dataframe_records": RECORDS})
    logged = [record.inputs for record in read_records(served.work / "predictions", 0, 2**60)]
    assert logged[0] == columns


def test_whatever_is_sent_to_a_model_without_a_signature_it_is_answered(serve):
    class Picky(pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["a"].to_numpy()

    served = serve(Picky())
    hostile = ["null", "5", "{}", "[]", '{"a": null}', '{"a": [[1], [1, 2]]}', "[null]", '[{"a": {}}, 1]', "[{}]", '""']
    statuses = []
    for text in hostile:
        for form in ("inputs", "instances", "dataframe_records"):
            statuses.append(served.post("/invocations", f'{{"{form}": {text}}}'.encode()).status)
    assert set(statuses) <= {400, 503}
    assert served.ask({"dataframe_records": [{"a": 1}]}) == [1]
    assert len(list(read_records(served.work / "predictions", 0, 2**60))) == len(statuses) + 1


def test_requests_to_a_model_without_a_signature_share_a_batch_only_as_arrays_of_one_type(serve):
    from mainspring.serving.checked import can_join
    from mainspring.serving.unsigned import take

    whole, fractions, table = (
        take(None, [[1, 2]], None),
        take(None, [[1.5, 2]], None),
        take({"a": [1]}, (), "table"),
    )
    assert can_join(whole, take(None, [[3, 4], [5, 6]], None))
    assert not can_join(whole, fractions)
    assert not can_join(whole, take(None, [[1, 2, 3]], None))
    assert not can_join(table, table)


@pytest.mark.parametrize(
    "answer",
    [
        3.5,
        "hello",
        {"a": np.arange(2)},
        {"a": np.arange(2), "b": ["x"]},
        [1, "a", None, 2.5, True],
        [{"n": np.float32(0.1), "list": [np.int64(1), {"t": pd.Timestamp("2020-01-02 03:04:05")}]}],
        pd.DataFrame({"t": pd.to_datetime(["2020-01-02 03:04:05"]), "big": [2**60 + 1]}),
        pd.Series([0.1, 0.2]),
        np.array([2**63 - 1]),
        [],
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_pyfunc_may_answer_what_it_likes(serve, answer):
    served = serve(Answer(answer))
    document = {"dataframe_split": {"columns": ["a"], "data": [[1], [2], [3]]}}
    assert served.ask(document) == served.ask_mlflow(json.dumps(document).encode())
    for path in ("/v1/models/m:predict", "/v2/models/m/infer"):
        body = {"instances": [[1]], "inputs": [{"name": "a", "shape": [1], "datatype": "INT64", "data": [1]}]}
        del body["inputs" if "v1" in path else "instances"]
        assert served.post(path, json.dumps(body).encode()).status in (200, 503)


@pytest.mark.parametrize("answer", [[object()], ["\ud800"]], ids=["object", "surrogate"])
def test_an_answer_that_no_protocol_can_send_is_an_error_at_once(serve, answer):
    served = serve(Answer(answer))
    for path in ("/invocations", "/v1/models/m:predict"):
        reply = served.post(path, b'{"instances": [[1]]}')
        assert (reply.status, json.loads(reply.body).popitem()[1]) == (
            503,
            "The model answered what cannot be sent. The endpoint's log has the reason.",
        )
    assert [record.status for record in read_records(served.work / "predictions", 0, 2**60)] == [503, 503]


def test_a_pyfunc_gets_its_tensors_as_mlflow_gives_them(serve):
    from mlflow.models import infer_signature

    for array in (np.ones((2, 3)), np.ones((2, 3), "float32"), np.ones(2), np.array(["a", "é"])):
        served = serve(Describe(), signature=infer_signature(array))
        document = {"inputs": array.tolist()}
        assert served.ask(document) == served.ask_mlflow(json.dumps(document).encode())


def test_text_pipelines_take_arrays_of_texts_with_a_signature_and_without(serve):
    from mlflow.models import infer_signature
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = np.array(["good and cheap", "bad food", "très bon", "bad"])
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["yes", "no", "yes", "no"])
    for signature in (infer_signature(texts), None):
        served = serve(model, signature=signature)
        assert served.ask({"inputs": texts.tolist()}) == ["yes", "no", "yes", "no"]
        assert served.ask({"instances": texts.tolist()}, "/v1/models/m:predict") == ["yes", "no", "yes", "no"]


def test_columns_of_single_precision_are_calculated_in_it(serve):
    from mlflow.models import infer_signature
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.tree import DecisionTreeRegressor

    generator = np.random.default_rng(0)
    single = pd.DataFrame(generator.normal(size=(80, 3)), columns=list("abc")).astype("float32")
    mixed = single.assign(b=single["b"].astype("float64"))
    target = single["a"] * 3 + single["b"]
    rows = [[0.1 + n / 3, n / 7, 1.1] for n in range(5)]
    document = {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows}}
    layers = MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    for inputs in (single, mixed):
        for model in (Ridge(), layers, DecisionTreeRegressor(max_depth=3)):
            model.fit(inputs, target)
            served = serve(model, signature=infer_signature(inputs))
            assert served.ask(document) == served.ask_mlflow(json.dumps(document).encode())


def test_csv_gives_columns_of_a_model_that_only_knows_names_their_types(serve):
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.DataFrame({"city": ["a", "b", "a"], "age": [1, 2, 4], "wage": [1.5, 2.0, 8.0]})
    parts = make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["age", "wage"]))
    served = serve(make_pipeline(parts, LinearRegression()).fit(frame, [1.0, 2.0, 3.0]))
    text = frame.to_csv(index=False).encode()
    found = json.loads(served.post("/invocations", text, "text/csv").body)["predictions"]
    assert found == served.ask_mlflow(text, "text/csv")


def test_scikit_learns_switches_are_left_as_they_were(serve):
    import sklearn
    from sklearn.svm import SVC

    before = sklearn.get_config()
    served = serve(SVC().fit([[0.0], [1.0]], [0, 1]))
    assert served.ask({"instances": [[0.1]]}) == [0]
    assert sklearn.get_config() == before
    model = served.endpoint.require_router().variants[0].model
    seen: list[dict[str, object]] = []

    def fit_elsewhere() -> None:
        from mainspring.serving.runtimes.examples import make_example

        model.predict(make_example(model.plan, 1))
        seen.append(sklearn.get_config())

    thread = threading.Thread(target=fit_elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_who_allows_pickles_allows_what_skops_does_not_trust(data, write_sklearn, load):
    from sklearn.neighbors import KNeighborsClassifier

    folder = write_sklearn(KNeighborsClassifier().fit(data.matrix, data.labels))
    with pytest.raises(Refused, match=r"--trust-type .* or --allow-pickle"):
        load(folder)
    model = load(folder, allow_pickle=True)
    assert model.platform == "sklearn"


def test_onnx_models_answer_under_the_names_of_their_outputs(tmp_path, clock):
    import mlflow.onnx
    from mlflow.models import infer_signature
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LinearRegression, LogisticRegression

    rows = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    types = [("X", FloatTensorType([None, 3]))]
    frame = pd.DataFrame(rows, columns=list("abc"))
    regression = convert_sklearn(LinearRegression().fit(rows, rows[:, 0] * 2), initial_types=types)
    classes = np.where(rows[:, 0] > 0, "yes", "no")
    classifier = convert_sklearn(LogisticRegression().fit(rows, classes), initial_types=types)
    array, table = (
        {"inputs": rows[:3].tolist()},
        {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows[:3].tolist()}},
    )
    cases = [(regression, None, array), (regression, infer_signature(frame), table), (classifier, None, array)]
    for number, (model, signature, document) in enumerate(cases):
        folder = tmp_path / f"onnx-{number}"
        mlflow.onnx.save_model(model, folder, signature=signature, pip_requirements=["x"])
        served = Served(folder, tmp_path / f"work-{number}", clock)
        found, wanted = served.ask(document), served.ask_mlflow(json.dumps(document).encode())
        assert found == wanted
        assert "variable" in str(found) or found["output_probability"][0].keys() == {"no", "yes"}
