"""Every kind of model answers what its own library answers, with what it needs imported and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from math import inf

import numpy as np
import pandas as pd
import pytest

from mainspring.core import Corrupt, NotFound, Refused, Unavailable
from mainspring.serving.batcher import Job, predict_jobs
from mainspring.serving.checked import concatenate
from mainspring.serving.faults import BadRequest
from mainspring.serving.validation import check, check_rows


def _mlflow(tmp_path, kind, data, models):
    """Save a model with MLflow itself."""
    import mlflow
    from mlflow.models import infer_signature

    trees = ["sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    frame = models.mixed.frame if kind == "mixed" else data.frame
    options = {"signature": infer_signature(frame), "pip_requirements": []}
    folder = tmp_path / kind
    if kind.startswith("xgb"):
        mlflow.xgboost.save_model(models.of(kind), folder, **options)
    elif kind.startswith("lgb"):
        mlflow.lightgbm.save_model(models.of(kind), folder, **options)
    elif kind == "onnx":
        mlflow.onnx.save_model(models.of(kind), folder, **options)
    else:
        trusted = [*trees, "numpy.dtype"]
        mlflow.sklearn.save_model(models.of(kind), folder, skops_trusted_types=trusted, **options)
    return folder


class Models:
    def __init__(self, data, logistic, forest, histogram, mixed):
        self.data, self.logistic, self.forest, self.histogram, self.mixed = data, logistic, forest, histogram, mixed

    def of(self, kind):
        import lightgbm
        import xgboost

        data, labels = self.data.frame, self.data.labels
        classes = np.array(["no", "yes", "maybe"])[
            (self.data.matrix[:, 0] > 0).astype(int) + (self.data.matrix[:, 1] > 1)
        ]
        match kind:
            case "logistic" | "forest" | "histogram":
                return getattr(self, kind)
            case "mixed":
                return self.mixed.model
            case "xgb-classifier":
                return xgboost.XGBClassifier(n_estimators=8, max_depth=3).fit(data, labels)
            case "xgb-multiclass":
                return xgboost.XGBClassifier(n_estimators=4).fit(data, np.searchsorted(np.unique(classes), classes))
            case "xgb-booster":
                matrix = xgboost.DMatrix(data, labels)
                return xgboost.train({"objective": "binary:logistic", "max_depth": 3}, matrix, 8)
            case "xgb-linear":
                return xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(data, labels), 8)
            case "lgb-classifier":
                return lightgbm.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1).fit(data, classes)
            case "lgb-booster":
                dataset = lightgbm.Dataset(data, labels)
                return lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, dataset, 8)
            case "onnx":
                from skl2onnx import to_onnx

                return to_onnx(self.logistic, self.data.matrix[:1].astype("float32"), options={"zipmap": False})
        raise AssertionError(kind)


@pytest.fixture(scope="session")
def models(data, logistic, forest, histogram, mixed):
    return Models(data, logistic, forest, histogram, mixed)


KINDS = {
    "logistic": "sklearn",
    "forest": "sklearn",
    "histogram": "sklearn",
    "mixed": "sklearn",
    "xgb-classifier": "xgboost",
    "xgb-multiclass": "xgboost",
    "xgb-booster": "xgboost",
    "xgb-linear": "xgboost",
    "lgb-classifier": "lightgbm",
    "lgb-booster": "lightgbm",
    "onnx": "onnxruntime_onnx",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_mlflow_saved_answers_what_mlflow_answers(kind, tmp_path, data, models, load):
    import mlflow.pyfunc

    folder = _mlflow(tmp_path, kind, data, models)
    asked, columns = (models.mixed.asked, models.mixed.columns) if kind == "mixed" else (data.asked, data.columns)
    model = load(folder)
    ours = model.predict(check(model.plan, columns, len(asked)))
    # MLflow cannot make a frame of the label and the scores that an ONNX classifier answers.
    other = models.logistic if kind == "onnx" else mlflow.pyfunc.load_model(str(folder))
    theirs = other.predict(asked)
    assert model.platform == KINDS[kind]
    assert ours.rows == len(asked)
    if np.asarray(theirs).dtype.kind == "f":
        np.testing.assert_allclose(ours.primary, theirs, rtol=1e-6)
    else:
        assert ours.primary.tolist() == np.asarray(theirs).ravel().tolist()


_LOOK = """
import sys
from pathlib import Path
from mainspring.serving import ModelReference
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.models import load_model
from mainspring.serving.runtimes.examples import make_example
folder = Path(sys.argv[1])
model = load_model(ModelReference(name="m", version="1", digest=tree_digest(folder), folder=str(folder)))
model.predict(make_example(model.plan, 3))
print(*[name for name in sys.argv[2:] if name in sys.modules])
"""
HEAVY = ("sklearn", "scipy", "pandas", "mlflow", "lightgbm", "xgboost", "onnx", "polars", "sqlalchemy", "pytest")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "needed"),
    [("onnx", ""), ("lgb-classifier", ""), ("xgb-classifier", ""), ("logistic", "sklearn scipy")],
)
def test_only_what_a_model_needs_is_imported(kind, needed, tmp_path, data, models):
    folder = _mlflow(tmp_path, kind, data, models)
    found = subprocess.run(
        [sys.executable, "-c", _LOOK, str(folder), *HEAVY], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == needed


def test_methods_are_offered_by_name(data, logistic, write_sklearn, load):
    model = load(write_sklearn(logistic, data.inputs))
    checked = check(model.plan, data.columns, 40)
    for name in ("predict_proba", "decision_function", "predict_log_proba"):
        outputs = model.methods[name](checked)
        assert outputs.names == (name,)
        np.testing.assert_allclose(outputs.primary, getattr(logistic, name)(data.asked), rtol=1e-12)


def test_the_flavour_chooses_the_method_that_answers(data, logistic, write_sklearn, load):
    section = {"loader_module": "mlflow.sklearn", "predict_fn": "predict_proba"}
    model = load(write_sklearn(logistic, data.inputs, python_function=section))
    checked = check(model.plan, data.columns, 40)
    np.testing.assert_allclose(model.predict(checked).primary, logistic.predict_proba(data.asked), rtol=1e-12)
    assert model.methods["predict"](checked).primary.tolist() == logistic.predict(data.asked).tolist()


def test_a_transformer_transforms_and_sparse_answers_become_arrays(mixed, write_sklearn, load):
    transformer = mixed.model[0]
    model = load(write_sklearn(transformer, mixed.inputs))
    found = model.predict(check(model.plan, mixed.columns, 20))
    assert found.names == ("transform",)
    expected = transformer.transform(mixed.asked)
    np.testing.assert_array_equal(found.primary, expected if isinstance(expected, np.ndarray) else expected.toarray())


def test_columns_are_reordered_to_what_the_model_was_fitted_with(data, logistic, write_sklearn, load):
    model = load(write_sklearn(logistic, data.inputs[::-1]))
    assert model.plan.names == ("d", "c", "b", "a")
    found = model.predict(check(model.plan, data.columns, 40)).primary
    assert found.tolist() == logistic.predict(data.asked).tolist()


def test_a_signature_that_does_not_fit_the_model_is_refused(data, logistic, write_sklearn, load):
    with pytest.raises(Corrupt, match="4 features, its signature 3"):
        load(write_sklearn(logistic, data.inputs[:3]))
    with pytest.raises(Corrupt, match="other columns"):
        load(write_sklearn(logistic, [*data.inputs[:3], {"name": "z", "type": "double"}], name="other"))


def test_numbers_selected_by_name_go_through_a_frame(data, write_sklearn, load):
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    picked = ColumnTransformer([("two", "passthrough", ["d", "a"])])
    fitted = make_pipeline(picked, LinearRegression()).fit(data.frame, data.matrix[:, 0])
    model = load(write_sklearn(fitted, data.inputs))
    found = model.predict(check(model.plan, data.columns, 40)).primary
    np.testing.assert_array_equal(found, fitted.predict(data.asked))


def test_values_may_be_missing_only_where_the_model_can_do_without(
    data, logistic, histogram, mixed, write_sklearn, load
):
    row = {name: [None if name == "b" else 1.0] for name in data.names}
    strict = load(write_sklearn(logistic, data.inputs))
    with pytest.raises(BadRequest, match="column 'b': expected a number, got null in row 0"):
        check(strict.plan, row, 1)
    tolerant = load(write_sklearn(histogram, data.inputs, name="histogram"))
    expected = histogram.predict(np.array([[1.0, np.nan, 1.0, 1.0]]))
    assert tolerant.predict(check(tolerant.plan, row, 1)).primary.tolist() == expected.tolist()
    imputed = load(write_sklearn(mixed.model, mixed.inputs, name="mixed"))
    row = {"carrier": ["AA"], "cabin": ["eco"], "distance": [None], "stops": [1]}
    assert imputed.predict(check(imputed.plan, row, 1)).rows == 1


def test_unseen_categories_are_noted_or_refused_as_the_encoder_does(mixed, write_sklearn, load):
    model = load(write_sklearn(mixed.model, mixed.inputs))
    row = {"carrier": ["ZZ"], "cabin": ["eco"], "distance": [0.5], "stops": [1]}
    checked = check(model.plan, row, 1)
    assert checked.notes == ("column 'carrier': unseen category 'ZZ'",)
    assert model.predict(checked).rows == 1
    with pytest.raises(BadRequest, match="column 'cabin': unseen category 'roof'"):
        check(model.plan, row | {"cabin": ["roof"]}, 1)


def test_a_forest_answers_to_the_last_bit_what_scikit_learn_answers_in_any_thread(data, forest, write_sklearn, load):
    from sklearn.ensemble import ExtraTreesRegressor

    model = load(write_sklearn(forest, data.inputs))
    answers = []
    checked = check(model.plan, data.columns, 40)
    thread = threading.Thread(target=lambda: answers.append(model.methods["predict_proba"](checked).primary))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(answers[0], forest.predict_proba(data.asked))
    regressor = ExtraTreesRegressor(10, random_state=0).fit(data.frame, data.matrix[:, 1])
    model = load(write_sklearn(regressor, data.inputs, name="regressor"))
    np.testing.assert_array_equal(model.predict(checked).primary, regressor.predict(data.asked))


def _linear(kind):
    from sklearn import linear_model, preprocessing, svm
    from sklearn.pipeline import make_pipeline

    match kind:
        case "binary":
            return make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
        case "three classes":
            return make_pipeline(preprocessing.MinMaxScaler(), linear_model.LogisticRegression())
        case "texts":
            return linear_model.SGDClassifier(loss="log_loss", random_state=0)
        case "one against all":
            return svm.LinearSVC()
        case "numbers":
            return make_pipeline(preprocessing.StandardScaler(with_std=False), linear_model.Ridge())
        case "two numbers":
            return linear_model.LinearRegression()
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["binary", "three classes", "texts", "one against all", "numbers", "two numbers"])
def test_a_linear_model_answers_to_the_last_bit_what_scikit_learn_answers(kind, data, write_sklearn, load):
    from sklearn.base import clone

    from mainspring.serving.runtimes.linears import fast_linear

    classes = (data.matrix[:, 0] > 0).astype(int) + (data.matrix[:, 1] > 0.5)
    wanted = {"texts": np.array(["a", "b", "c"])[classes], "numbers": data.matrix[:, 2], "binary": data.labels}
    wanted["two numbers"] = data.matrix[:, :2]
    fitted = clone(_linear(kind)).fit(data.matrix, wanted.get(kind, classes))
    assert fast_linear(fitted, "predict") is not None
    model = load(write_sklearn(fitted, data.inputs))
    for name in ("predict", "predict_proba", "decision_function"):
        if hasattr(fitted, name):
            for rows in (1, 7, 40):
                checked = check_rows(model.plan, data.matrix[:rows].tolist())
                call = model.predict if name == "predict" else model.methods[name]
                np.testing.assert_array_equal(call(checked).primary, getattr(fitted, name)(data.matrix[:rows]))


def test_numbers_that_overflow_in_a_linear_model_are_refused_not_answered(data, logistic, write_sklearn, load):
    from sklearn.base import clone

    model = load(write_sklearn(clone(logistic).fit(data.matrix * 1e-3, data.labels), data.inputs))
    for predict in (model.predict, model.methods["predict_proba"], model.methods["decision_function"]):
        with pytest.raises(BadRequest, match="overflows"):
            predict(check_rows(model.plan, [[1e308] * 4]))


def test_a_linear_model_of_single_precision_stays_scikit_learns(data, logistic, write_sklearn, load):
    from sklearn.base import clone

    fitted = clone(logistic).fit(data.matrix.astype(np.float32), data.labels)
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]
    model = load(write_sklearn(fitted, inputs))
    checked = check_rows(model.plan, data.matrix[:9].tolist())
    expected = fitted.predict_proba(data.matrix[:9].astype(np.float32))
    np.testing.assert_array_equal(model.methods["predict_proba"](checked).primary, expected)


@pytest.mark.parametrize("has_names", [True, False])
def test_a_model_without_a_signature_gets_a_plan_from_itself(has_names, data, write_sklearn, load):
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression().fit(data.frame if has_names else data.matrix, data.labels)
    model = load(write_sklearn(fitted))
    expected = LinearRegression().fit(data.matrix, data.labels).predict(data.matrix[-40:])
    if has_names:
        assert model.plan.names == tuple(data.names)
        checked = check(model.plan, data.columns, 40)
    else:
        assert model.plan.tensors[0].shape == (-1, 4)
        checked = check_rows(model.plan, data.matrix[-40:].tolist())
    np.testing.assert_allclose(model.predict(checked).primary, expected)
    with pytest.raises(BadRequest):
        check_rows(model.plan, [[1.0, 2.0, 3.0]])


def test_a_model_that_selects_columns_by_name_gets_them_as_they_were_sent_if_it_has_no_signature(
    mixed, write_sklearn, load
):
    model = load(write_sklearn(mixed.model))
    assert model.plan.names == ("carrier", "cabin", "distance", "stops")
    rows = [["AA", "eco", 0.5, 1], ["B6", "first", None, 0], ["XX", "eco", -2.0, 2]]
    frame = pd.DataFrame(rows, columns=list(model.plan.names))
    expected = mixed.model.predict_proba(frame)
    np.testing.assert_array_equal(model.methods["predict_proba"](check_rows(model.plan, rows)).primary, expected)


def test_boosters_without_a_signature_know_their_features(data, models, write_model, load):
    xgb = models.of("xgb-booster")
    folder = write_model({"model.json": bytes(xgb.save_raw("json"))}, xgboost={"data": "model.json"})
    assert load(folder).plan.names == tuple(data.names)
    lgb = models.of("lgb-booster")
    folder = write_model({"m.lgb": lgb.model_to_string().encode()}, name="lgb", lightgbm={"data": "m.lgb"})
    model = load(folder)
    np.testing.assert_allclose(
        model.predict(check_rows(model.plan, data.matrix[:5].tolist())).primary, lgb.predict(data.matrix[:5])
    )


def _onnx(nodes, inputs, outputs, weights=()):
    from onnx import helper

    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def test_an_onnx_model_of_several_tensors_is_called_by_their_names(write_model, load):
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),
    ]
    outputs = [
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("difference", TensorProto.FLOAT, ["n", 2]),
    ]
    nodes = [helper.make_node("Add", ["x", "y"], ["sum"]), helper.make_node("Sub", ["x", "y"], ["difference"])]
    model = load(write_model({"model.onnx": _onnx(nodes, inputs, outputs)}, onnx={"data": "model.onnx"}))
    given = {"y": [[1, 1]], "x": np.array([[3.0, 4.0]])}
    found = model.predict(check(model.plan, given, 1))
    assert found.names == ("sum", "difference")
    assert [array.tolist() for array in found.arrays] == [[[4.0, 5.0]], [[2.0, 3.0]]]
    with pytest.raises(BadRequest, match="input 'y' is missing"):
        check(model.plan, {"x": [[1, 2]]}, 1)


def test_an_onnx_model_that_takes_one_row_is_asked_row_by_row(write_model, load):
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    model = load(
        write_model({"m.onnx": _onnx([helper.make_node("Neg", ["x"], ["y"])], [x], [y])}, onnx={"data": "m.onnx"})
    )
    checked = check(model.plan, {"x": [[1, 2], [3, 4], [5, 6]]}, 3)
    assert model.predict(checked).primary.tolist() == [[-1, -2], [-3, -4], [-5, -6]]


@pytest.fixture
def save_python_model(tmp_path):
    """Save a pyfunc model of any code."""

    def save(python_model, **options):
        import mlflow.pyfunc

        folder = tmp_path / "python-model"
        mlflow.pyfunc.save_model(folder, python_model=python_model, pip_requirements=[], **options)
        return folder

    return save


@pytest.mark.filterwarnings("ignore")
def test_a_pyfunc_model_gets_params_and_may_answer_a_frame(save_python_model, load):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Scale(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            factor = (params or {}).get("factor", 1.0)
            return pd.DataFrame({"scaled": model_input["a"] * factor, "text": model_input["t"]})

    frame = pd.DataFrame({"a": [1.0, 2.0], "t": ["x", "y"]})
    folder = save_python_model(Scale(), signature=infer_signature(frame, params={"factor": 2.0}))
    with pytest.raises(Refused, match="allow-pickle"):
        load(folder)
    from mainspring.serving.validation import check_params

    model = load(folder, allow_pickle=True)
    for given, expected in (({}, [2.0, 4.0]), ({"factor": 5.0}, [5.0, 10.0])):
        params = check_params(model.plan, given)
        found = model.predict(check(model.plan, {"t": ["x", "y"], "a": [1, 2]}, 2, params=params))
        assert (found.names, found.is_frame) == (("scaled", "text"), True)
        assert [array.tolist() for array in found.arrays] == [expected, ["x", "y"]]
    with pytest.raises(BadRequest, match="'factor': expected a number, got 'much'"):
        check_params(model.plan, {"factor": "much"})


@pytest.mark.filterwarnings("ignore")
def test_a_slow_model_is_known_to_be_slow(save_python_model, load):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Slow(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            time.sleep(0.005)
            return [1.0] * len(model_input)

    folder = save_python_model(Slow(), signature=infer_signature(pd.DataFrame({"a": [1.0]})))
    assert not load(folder, allow_pickle=True).is_quick


@pytest.mark.filterwarnings("ignore")
def test_requests_whose_answers_cannot_be_told_apart_are_predicted_one_by_one(save_python_model, load):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Total(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return float(model_input["a"].sum())

    folder = save_python_model(Total(), signature=infer_signature(pd.DataFrame({"a": [1.0]})))
    model = load(folder, allow_pickle=True)
    jobs = [Job(None, check(model.plan, {"a": [one]}, 1), ("predict",), inf) for one in (1.0, 2.0, 3.0)]
    predict_jobs(model, jobs, None)
    assert [job.outputs.primary.item() for job in jobs] == [1.0, 2.0, 3.0]


def test_quick_models_are_known_to_be_quick(data, logistic, write_sklearn, load):
    assert load(write_sklearn(logistic, data.inputs)).is_quick


def test_a_model_that_fails_on_its_own_example_is_not_served(data, write_model, load):
    booster = Models(data, None, None, None, None).of("lgb-booster").model_to_string().encode()
    section = {"lightgbm": {"data": "m.lgb"}}
    example = json.dumps({"columns": ["a", "b", "c", "d"], "data": [["x", 1, 2, 3]]}).encode()
    folder = write_model({"m.lgb": booster, "input_example.json": example}, inputs=data.inputs, **section)
    assert load(folder).is_quick
    import yaml

    document = yaml.safe_load((folder / "MLmodel").read_text())
    document["saved_input_example_info"] = {"artifact_path": "input_example.json"}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    assert load(folder).is_quick, "an example that is not even in the signature's form is left aside"


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_raises_on_its_own_example_is_unavailable(save_python_model, load):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Broken(mlflow.pyfunc.PythonModel):
        def __init__(self):
            self.calls = 0

        def predict(self, context, model_input, params=None):
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("no such thing")
            return [1.0] * len(model_input)

    frame = pd.DataFrame({"a": [1.0]})
    folder = save_python_model(Broken(), signature=infer_signature(frame), input_example=frame)
    with pytest.raises(Unavailable, match="its own input example: RuntimeError: no such thing"):
        load(folder, allow_pickle=True)


def test_batches_of_several_requests_answer_what_each_alone_answers(data, logistic, mixed, write_sklearn, load):
    for estimator, inputs, columns, rows, name in (
        (logistic, data.inputs, data.columns, 40, "numbers"),
        (mixed.model, mixed.inputs, mixed.columns, 20, "mixed"),
    ):
        model = load(write_sklearn(estimator, inputs, name=name))
        parts = [
            check(model.plan, {key: values[start:stop] for key, values in columns.items()}, stop - start)
            for start, stop in ((0, 1), (1, 8), (8, rows))
        ]
        together = model.predict(concatenate(parts))
        alone = [model.predict(part).primary for part in parts]
        assert [together.slice(0, 1).primary.tolist(), together.slice(1, 8).primary.tolist()] == [
            alone[0].tolist(),
            alone[1].tolist(),
        ]


def test_a_model_without_a_known_flavour_is_refused(write_model, load):
    with pytest.raises(Refused, match="no flavour that is served"):
        load(write_model({}, statsmodels={"data": "x"}))


def test_a_file_that_is_named_but_not_there_is_an_error(write_model, load):
    with pytest.raises((Corrupt, NotFound)):
        load(write_model({}, loader="mlflow.sklearn", sklearn={"pickled_model": "model.skops"}))
