"""Our own models: a LightGBM booster behind the transform it was trained with."""

from __future__ import annotations

import msgspec

from mainspring.core import Corrupt, Refused
from mainspring.features import CategoricalColumn
from mainspring.serving.checked import Checked
from mainspring.serving.explanations import Explanation
from mainspring.serving.mlmodel import data_path
from mainspring.serving.outputs import Outputs, single
from mainspring.serving.plan import Plan, make_plan
from mainspring.serving.pyfunc import TransformedBooster, load_transformed_booster
from mainspring.serving.runtimes.interface import Runtime, Source
from mainspring.serving.runtimes.lightgbm import explain_matrix

PLATFORM = "mainspring"


def load(source: Source) -> Runtime:
    """Load a transformed booster; its signature must have the columns its transform reads."""
    model = load_transformed_booster(data_path(source.folder, source.flavor("python_function")))
    if source.plan is None or not source.plan.columns:
        raise Refused(f"Model {source.name} has no input signature.", hint="Log it with signature=…")
    unknown = [feature for feature in model.transform.feature_names if feature not in source.plan.by_name]
    if unknown:
        raise Corrupt(f"Model {source.name} needs columns its signature does not have: {', '.join(unknown[:10])}.")

    def predict(checked: Checked) -> Outputs:
        return single(model.predict_columns(checked.columns))

    def explain(checked: Checked) -> Explanation:
        matrix = model.transform.apply(checked.columns)
        return explain_matrix(model.booster, matrix, tuple(model.transform.feature_names))

    return Runtime(PLATFORM, _with_categories(source, model), predict, explain=explain)


def _with_categories(source: Source, model: TransformedBooster) -> Plan:
    """Tell the plan which texts the transform has learned: others are predicted, and noted."""
    assert source.plan is not None
    learned = {
        column.name: frozenset(column.categories)
        for column in model.transform.columns
        if isinstance(column, CategoricalColumn)
    }
    columns = [
        msgspec.structs.replace(column, categories=learned.get(column.name)) if column.type == "string" else column
        for column in source.plan.columns
    ]
    return make_plan(columns, source.plan.params)
