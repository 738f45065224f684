"""LitServe, one worker, without batching (with it, it is slower on a model this small)."""

from __future__ import annotations

import os
import sys

import joblib
import litserve


class Classifier(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["MODEL_FILE"])

    def decode_request(self, request):
        return request["instances"]

    def predict(self, rows):
        return self.model.predict(rows)

    def encode_response(self, output):
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=1).run(
        port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
