"""Contributions add up to the score they explain."""

from __future__ import annotations

import numpy as np
import pytest

from mainspring.serving.validation import check


def _total(explanation):
    contributions = np.array(explanation.contributions)
    return np.array(explanation.base_values) + contributions.sum(axis=2)


def _logit(probability):
    return np.log(probability / (1 - probability))


def test_a_lightgbm_model_explains_itself(data, write_model, load):
    import lightgbm

    dataset = lightgbm.Dataset(data.frame, data.labels)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, dataset, 5)
    files = {"m.lgb": booster.model_to_string().encode()}
    model = load(write_model(files, inputs=data.inputs, lightgbm={"data": "m.lgb"}))
    checked = check(model.plan, data.columns, 40)
    explanation = model.explain(checked)
    assert (explanation.method, explanation.names, explanation.unit) == ("tree", tuple(data.names), "raw score")
    assert explanation.outputs == ("predict",)
    np.testing.assert_allclose(_total(explanation)[:, 0], _logit(model.predict(checked).primary), rtol=1e-9)


def test_an_xgboost_model_of_several_classes_explains_each(data, write_model, load):
    import xgboost

    classes = (data.matrix[:, 0] > 0).astype(int) + (data.matrix[:, 1] > 1)
    fitted = xgboost.XGBClassifier(n_estimators=3).fit(data.frame, classes)
    flavor = {"data": "m.ubj", "model_class": "xgboost.sklearn.XGBClassifier"}
    files = {"m.ubj": bytes(fitted.get_booster().save_raw("ubj"))}
    model = load(write_model(files, inputs=data.inputs, xgboost=flavor))
    checked = check(model.plan, data.columns, 40)
    explanation = model.explain(checked)
    assert explanation.outputs == ("0", "1", "2")
    margins = fitted.predict(data.asked, output_margin=True)
    np.testing.assert_allclose(_total(explanation), margins, rtol=1e-4, atol=1e-4)


def test_a_linear_model_explains_itself(data, logistic, write_sklearn, load):
    model = load(write_sklearn(logistic, data.inputs))
    explanation = model.explain(check(model.plan, data.columns, 40))
    assert (explanation.method, explanation.unit, explanation.outputs) == ("linear", "log-odds", ("1",))
    np.testing.assert_allclose(_total(explanation)[:, 0], logistic.decision_function(data.asked), rtol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_trees_of_scikit_learn_are_explained_by_shap(data, forest, write_sklearn, load):
    model = load(write_sklearn(forest, data.inputs))
    explanation = model.explain(check(model.plan, data.columns, 40))
    assert (explanation.method, explanation.unit, explanation.outputs) == ("shap", "probability", ("0", "1"))
    np.testing.assert_allclose(_total(explanation), forest.predict_proba(data.asked), rtol=1e-6)


def test_our_own_models_explain_the_features_of_their_transform(model_folder, rows, load):
    from mainspring.serving.validation import check_rows

    model = load(model_folder)
    checked = check_rows(model.plan, rows)
    explanation = model.explain(checked)
    assert explanation.names == ("month", "distance", "temp", "carrier", "engine")
    np.testing.assert_allclose(_total(explanation)[:, 0], _logit(model.predict(checked).primary), rtol=1e-9)


def test_a_model_that_cannot_be_explained_says_so_by_having_no_explanation(mixed, write_sklearn, load):
    assert load(write_sklearn(mixed.model, mixed.inputs)).explain is None
