"""Train the model every server of the comparison serves, and save it in the forms they read."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import mlflow.onnx
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def make_models(folder: Path) -> None:
    """Write ``sklearn`` and ``onnx`` (MLflow folders) and ``model.pkl``, ``model.joblib``."""
    import joblib
    from skl2onnx import to_onnx

    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = load_breast_cancer()
    rows, classes = data.data, data.target
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, classes)
    frame = load_breast_cancer(as_frame=True).data
    signature = infer_signature(frame, model.predict(rows))
    mlflow.sklearn.save_model(model, folder / "sklearn", signature=signature)
    mlflow.onnx.save_model(to_onnx(model, rows[:1], options={"zipmap": False}), folder / "onnx", signature=signature)
    joblib.dump(model, folder / "model.joblib")
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    (folder / "complete").touch()


if __name__ == "__main__":
    make_models(Path(sys.argv[1]))
