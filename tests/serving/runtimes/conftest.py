"""Models of every kind, trained once, in folders as MLflow writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from mainspring.serving import ModelReference
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.models import LoadedModel, load_model


@pytest.fixture
def load() -> Callable[..., LoadedModel]:
    """Load a model folder as an endpoint would: ``load(folder, allow_pickle=…, trust_types=…)``."""

    def run(folder: Path, **options: Any) -> LoadedModel:
        reference = ModelReference(name="m", version="1", digest=tree_digest(folder), folder=str(folder))
        return load_model(reference, **options)

    return run


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model folder: ``write_model({"m.skops": bytes}, inputs=[…], sklearn={…}, loader="mlflow.sklearn")``."""

    def write(
        files: dict[str, bytes], *, inputs: list | None = None, loader: str = "", name: str = "model", **flavors: dict
    ) -> Path:
        folder = tmp_path / name
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        folder.mkdir(exist_ok=True)
        if loader:
            flavors.setdefault("python_function", {"loader_module": loader})
        document = {"flavors": flavors, "signature": {"inputs": json.dumps(inputs)} if inputs else None}
        (folder / "MLmodel").write_text(yaml.safe_dump(document))
        return folder

    return write


def named(names: list[str], kind: str = "double") -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name in names]


@pytest.fixture
def write_sklearn(write_model: Callable[..., Path]) -> Callable[..., Path]:
    """Write an estimator as a skops file: ``write_sklearn(estimator, inputs=[…])``."""

    def write(estimator: object, inputs: list | None = None, **more: Any) -> Path:
        import skops.io

        flavor = {"pickled_model": "model.skops", "serialization_format": "skops"}
        files = {"model.skops": skops.io.dumps(estimator)}
        return write_model(files, inputs=inputs, loader="mlflow.sklearn", sklearn=flavor, **more)

    return write


@pytest.fixture(scope="session")
def data() -> SimpleNamespace:
    """400 rows of four numbers and a class; the last rows are for asking."""
    import pandas as pd

    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(400, 4))
    labels = (matrix[:, 0] + matrix[:, 1] * matrix[:, 2] > 0).astype(int)
    names = ["a", "b", "c", "d"]
    frame = pd.DataFrame(matrix, columns=names)
    asked = frame[-40:]
    columns = {name: asked[name].tolist() for name in names}
    return SimpleNamespace(
        matrix=matrix, labels=labels, names=names, frame=frame, asked=asked, columns=columns, inputs=named(names)
    )


@pytest.fixture(scope="session")
def logistic(data: SimpleNamespace) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(data.frame, data.labels)


@pytest.fixture(scope="session")
def forest(data: SimpleNamespace) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20, max_depth=5, random_state=0).fit(data.frame, data.labels)


@pytest.fixture(scope="session")
def histogram(data: SimpleNamespace) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = data.frame.mask(np.random.default_rng(1).random(data.frame.shape) < 0.1)
    return HistGradientBoostingClassifier(max_iter=15).fit(frame, data.labels)


@pytest.fixture(scope="session")
def mixed() -> SimpleNamespace:
    """A model that selects its columns by name, two of them texts."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    generator = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "carrier": generator.choice(["AA", "B6", "UA"], 300),
            "cabin": generator.choice(["eco", "first"], 300),
            "distance": generator.normal(size=300),
            "stops": generator.integers(0, 3, 300),
        }
    )
    labels = ((frame.carrier == "AA") | (frame.distance > 1)).astype(int)
    parts = [
        ("known", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
        ("strict", OneHotEncoder(), ["cabin"]),
        ("numbers", SimpleImputer(), ["distance", "stops"]),
    ]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(frame, labels)
    inputs = [
        {"name": "carrier", "type": "string"},
        {"name": "cabin", "type": "string"},
        {"name": "distance", "type": "double"},
        {"name": "stops", "type": "long"},
    ]
    columns = {name: frame[name][:20].tolist() for name in frame}
    return SimpleNamespace(model=model, frame=frame, inputs=inputs, columns=columns, asked=frame[:20])
