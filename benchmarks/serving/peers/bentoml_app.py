"""BentoML, one worker."""

from __future__ import annotations

import os

import bentoml


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        import joblib

        self.model = joblib.load(os.environ["MODEL_FILE"])

    @bentoml.api
    def predict(self, instances: list[list[float]]) -> dict[str, list[int]]:
        return {"predictions": self.model.predict(instances).tolist()}
