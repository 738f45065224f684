"""KServe's model server with a scikit-learn model, as its sklearn server runs one."""

from __future__ import annotations

import argparse
import os

import joblib
from kserve import Model, ModelServer, model_server
from kserve.utils.utils import get_predict_input, get_predict_response


class Classifier(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.model = joblib.load(os.environ["MODEL_FILE"])
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        return get_predict_response(payload, self.model.predict(get_predict_input(payload)), self.name)


if __name__ == "__main__":
    options, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
    ModelServer(http_port=options.http_port, workers=1, enable_grpc=False).start([Classifier("m")])
