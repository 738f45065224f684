"""A quick form is served only if it answers as the original does; the report says how it was compared."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mainspring.core import AlreadyExists, Refused
from mainspring.serving.acceleration import PARITY, accelerate, read_report
from mainspring.serving.validation import check

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_forest_becomes_onnx_with_a_report_beside_it(data, forest, write_sklearn, load, tmp_path):
    original = write_sklearn(forest, data.inputs)
    report = accelerate(original, data.columns, tmp_path / "quick")
    assert (report.form, report.rows, report.accepted, report.reason) == ("onnx", 40, True, "")
    assert 0 <= report.max_difference <= report.tolerance
    assert report.label_flips == report.ties
    assert read_report(tmp_path / "quick") == report
    model = load(tmp_path / "quick")
    checked = check(model.plan, data.columns, 40)
    assert model.platform == "onnxruntime_onnx"
    assert model.predict(checked).primary.tolist() == forest.predict(data.asked).tolist()
    np.testing.assert_allclose(
        model.methods["predict_proba"](checked).primary, forest.predict_proba(data.asked), atol=1e-6
    )


def test_columns_of_texts_and_numbers_become_inputs_of_their_own(mixed, write_sklearn, load, tmp_path):
    report = accelerate(write_sklearn(mixed.model, mixed.inputs), mixed.columns, tmp_path / "quick")
    assert report.accepted
    model = load(tmp_path / "quick")
    found = model.predict(check(model.plan, mixed.columns, 20)).primary
    assert found.tolist() == mixed.model.predict(mixed.asked).tolist()


@pytest.mark.parametrize("classes", [2, 3])
def test_histogram_boosting_becomes_lightgbm_and_answers_the_same(classes, data, write_sklearn, load, tmp_path):
    from sklearn.ensemble import HistGradientBoostingClassifier

    names = np.array(["no", "yes", "maybe"])[:classes]
    labels = names[(data.matrix[:, 0] > 0).astype(int) + (data.matrix[:, 1] > 1) * (classes - 2)]
    frame = data.frame.mask(np.random.default_rng(1).random(data.frame.shape) < 0.1)
    fitted = HistGradientBoostingClassifier(max_iter=10).fit(frame, labels)
    columns = data.columns | {"c": [None, *data.columns["c"][1:]]}
    report = accelerate(write_sklearn(fitted, data.inputs), columns, tmp_path / "quick")
    assert (report.form, report.accepted, report.label_flips) == ("lightgbm", True, 0)
    assert report.max_difference < 1e-15
    model = load(tmp_path / "quick")
    asked = data.asked.assign(c=[np.nan, *data.columns["c"][1:]])
    assert model.predict(check(model.plan, columns, 40)).primary.tolist() == fitted.predict(asked).tolist()


def test_a_histogram_regressor_of_counts_becomes_lightgbm(data, write_sklearn, load, tmp_path):
    from sklearn.ensemble import HistGradientBoostingRegressor

    counts = np.round(np.exp(data.matrix[:, 0]))
    fitted = HistGradientBoostingRegressor(loss="poisson", max_iter=10).fit(data.frame, counts)
    report = accelerate(write_sklearn(fitted, data.inputs), data.columns, tmp_path / "quick")
    assert report.accepted
    assert report.max_difference < 1e-12


def test_a_form_that_differs_by_more_than_is_tolerated_is_not_written(data, logistic, write_sklearn, tmp_path):
    report = accelerate(write_sklearn(logistic, data.inputs), data.columns, tmp_path / "quick", tolerance=1e-12)
    assert not report.accepted
    assert "a score differs by" in report.reason
    assert [path.name for path in (tmp_path / "quick").iterdir()] == [PARITY]


def test_what_may_be_missing_stays_as_the_original_has_it(data, logistic, write_sklearn, load, tmp_path):
    from mainspring.serving.faults import BadRequest

    accelerate(write_sklearn(logistic, data.inputs), data.columns, tmp_path / "quick")
    model = load(tmp_path / "quick")
    with pytest.raises(BadRequest, match="got null"):
        check(model.plan, {name: [None] for name in data.names}, 1)


def test_the_original_answers_where_the_quick_form_cannot_be_loaded(
    data, logistic, write_sklearn, load, tmp_path, monkeypatch
):
    accelerate(write_sklearn(logistic, data.inputs), data.columns, tmp_path / "quick")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = load(tmp_path / "quick")
    assert model.platform == "sklearn"
    assert model.predict(check(model.plan, data.columns, 40)).rows == 40


def test_the_original_explains(data, logistic, write_sklearn, load, tmp_path):
    accelerate(write_sklearn(logistic, data.inputs), data.columns, tmp_path / "quick")
    model = load(tmp_path / "quick")
    assert model.platform == "onnxruntime_onnx"
    assert model.explain(check(model.plan, data.columns, 40)).method == "linear"


def test_models_without_a_quick_form_are_refused(data, write_model, tmp_path):
    import lightgbm
    from sklearn.ensemble import HistGradientBoostingRegressor

    dataset = lightgbm.Dataset(data.frame, data.labels)
    text = lightgbm.train({"verbose": -1, "num_threads": 1}, dataset, 2).model_to_string().encode()
    native = write_model({"m.lgb": text}, inputs=data.inputs, name="native", lightgbm={"data": "m.lgb"})
    from mainspring.serving.histograms import to_lightgbm

    with pytest.raises(Refused, match="native LightGBM model already"):
        accelerate(native, data.columns, tmp_path / "quick")
    frame = data.frame.assign(d=(data.frame.d > 0).astype(float))
    categorical = HistGradientBoostingRegressor(categorical_features=[3], max_iter=3).fit(frame, data.labels)
    with pytest.raises(Refused, match="splits on categories"):
        to_lightgbm(categorical)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(AlreadyExists):
        accelerate(native, data.columns, tmp_path / "full")
