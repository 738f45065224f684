"""FastAPI as its tutorials serve a model: a pydantic body, a plain function, the whole batch of a request at once."""

from __future__ import annotations

import os

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL_FILE"])
app = FastAPI()


class Rows(BaseModel):
    instances: list[list[float]]


@app.get("/health")
def health() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
def predict(rows: Rows) -> dict[str, list[int]]:
    return {"predictions": model.predict(rows.instances).tolist()}
