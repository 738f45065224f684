"""Learners by name: scikit-learn's from a list, LightGBM, XGBoost, or a function of the user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mainspring.core import Foreign, InvalidInput, Unavailable

Task = Literal["binary", "multiclass", "regression"]
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
FUNCTION = "function:"

ALLOWED = frozenset(
    f"sklearn.{name}"
    for name in (
        "dummy.DummyClassifier", "dummy.DummyRegressor",
        "ensemble.ExtraTreesClassifier", "ensemble.ExtraTreesRegressor",
        "ensemble.GradientBoostingClassifier", "ensemble.GradientBoostingRegressor",
        "ensemble.HistGradientBoostingClassifier", "ensemble.HistGradientBoostingRegressor",
        "ensemble.RandomForestClassifier", "ensemble.RandomForestRegressor",
        "linear_model.BayesianRidge", "linear_model.ElasticNet", "linear_model.GammaRegressor",
        "linear_model.HuberRegressor", "linear_model.Lasso", "linear_model.LinearRegression",
        "linear_model.LogisticRegression", "linear_model.PoissonRegressor", "linear_model.QuantileRegressor",
        "linear_model.Ridge", "linear_model.TweedieRegressor",
        "naive_bayes.GaussianNB", "neighbors.KNeighborsClassifier", "neighbors.KNeighborsRegressor",
        "neural_network.MLPClassifier", "neural_network.MLPRegressor", "svm.LinearSVR", "svm.SVR",
        "tree.DecisionTreeClassifier", "tree.DecisionTreeRegressor",
    )
)  # fmt: skip
"""Classifiers here give probabilities; anything else is made by a function of the user's."""

_BOOSTERS = {
    "lightgbm": {"classifier": "LGBMClassifier", "regressor": "LGBMRegressor"},
    "xgboost": {"classifier": "XGBClassifier", "regressor": "XGBRegressor"},
}
_MANY = 1_000_000
"""Below so many values threads wait for each other longer than they work."""
_QUIET: Mapping[str, Mapping[str, Any]] = {
    "lightgbm": {"verbosity": -1, "deterministic": True, "force_row_wise": True},
}


def check_task(task: str) -> Task:
    """Return the task; raise `InvalidInput` if it is none."""
    for known in TASKS:
        if task == known:
            return known
    raise InvalidInput(f"{task[:50]!r} is no task.", hint=f"Use {', '.join(TASKS)}.")


def make_estimator(
    name: str,
    task: Task,
    settings: Mapping[str, Any],
    seed: int,
    *,
    values: int = 0,
) -> Foreign:  # an estimator
    """Return an unfitted estimator; the seed goes in wherever it takes one, and wins over the settings' own.

    ``values`` is the size of the matrix to come: a booster uses all cores only if there is enough to share.
    """
    kind = _find_class(name, task)
    known = inspect.signature(kind.__init__).parameters
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    unknown = sorted(set(settings) - set(known))
    if unknown and not takes_more:
        raise InvalidInput(f"{name} has no setting {unknown[0]!r}.", hint=f"It has {', '.join(list(known)[1:])}.")
    seeded = {"random_state": seed} if "random_state" in known or takes_more else {}
    threads = {"n_jobs": -1 if values >= _MANY else 1} if name in _BOOSTERS else {}
    return kind(**{**threads, **_QUIET.get(name, {}), **settings, **seeded})


def fit_learner(learner: Foreign, name: str, matrix: Foreign, labels: Foreign, **options: Foreign) -> Foreign:
    """Fit a learner, with all of scikit-learn's checks on, whatever the thread's settings are."""
    import sklearn

    errors: tuple[type[Exception], ...] = (ValueError, TypeError, *_library_errors(name))
    try:
        with sklearn.config_context(assume_finite=False, skip_parameter_validation=False):
            return learner.fit(matrix, labels, **options)
    except errors as error:
        is_gap = "nan" in str(error).lower() and bool(np.isnan(matrix).any())
        hint = "Use a transform of the style standard." if is_gap else "Check the settings."
        raise InvalidInput(f"{name} refuses the rows: {str(error).splitlines()[0][:300]}", hint=hint) from error


def _library_errors(name: str) -> tuple[type[Exception], ...]:
    """Return the errors of a booster's own; both say what they do not like of settings with them."""
    if name == "lightgbm":
        return (importlib.import_module("lightgbm.basic").LightGBMError,)
    return (importlib.import_module("xgboost.core").XGBoostError,) if name == "xgboost" else ()


def load_function(name: str) -> Foreign:  # the user's function
    """Import ``function:package.module:name``, the user's own code, which has to be installed where the step runs."""
    module, colon, attribute = name.removeprefix(FUNCTION).partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise InvalidInput(f"{name[:100]!r} names no function.", hint="Write function:package.module:name.")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise InvalidInput(
            f"{module} cannot be imported: {error}.", hint="Install it where the step runs, or set PYTHONPATH."
        ) from error
    if not callable(found):
        raise InvalidInput(f"{module} has no function {attribute!r}.", hint="Check the name.")
    return found


def _find_class(name: str, task: Task) -> Foreign:  # a class
    if name in _BOOSTERS:
        module, attribute = name, _BOOSTERS[name]["regressor" if task == "regression" else "classifier"]
    elif name in ALLOWED:
        module, _, attribute = name.rpartition(".")
        if attribute.endswith("Classifier") and task == "regression":
            raise InvalidInput(f"{name} is no learner for {task}.", hint="Name a regressor.")
    else:
        raise InvalidInput(
            f"{name[:100]!r} is not on the list of learners.",
            hint="Use lightgbm, xgboost, a scikit-learn estimator such as sklearn.linear_model.LogisticRegression, "
            "or function:package.module:name.",
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        extra = module.partition(".")[0]
        raise Unavailable(f"{name} is not installed: {error}.", hint=f"pip install 'mainspring[{extra}]'") from error
