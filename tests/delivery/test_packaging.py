"""What a package holds is what the platforms read, and runs as it would in the container."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from mainspring.core import AlreadyExists, Corrupt, InvalidInput, Unavailable
from mainspring.delivery.packaging import PackageInputs, PackageSpec, dns_name, lock_requirements, write_package
from mainspring.delivery.packaging import requirements as requirements_module
from mainspring.serving import ModelReference, read_deployment
from mainspring.serving.mlmodel import tree_digest

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ModelReference:
    """A real LightGBM model, saved the way MLflow does."""
    import lightgbm
    import numpy as np

    folder = tmp_path_factory.mktemp("model")
    generator = np.random.default_rng(1)
    matrix = generator.random((500, 2))
    data = lightgbm.Dataset(matrix, (matrix.sum(axis=1) > 1).astype(float))
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 5)
    booster.save_model(folder / "model.lgb")
    inputs = json.dumps([{"name": name, "type": "double", "required": True} for name in ("a", "b")])
    document = {
        "flavors": {
            "lightgbm": {"data": "model.lgb", "lgb_version": lightgbm.__version__},
            "python_function": {"loader_module": "mlflow.lightgbm"},
        },
        "signature": {"inputs": inputs, "outputs": None, "params": None},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return ModelReference(name="Delays\nRUN rm", version="7", digest=tree_digest(folder), folder=str(folder))


def _spec(model: ModelReference, **changes: object) -> PackageSpec:
    fields: dict = {"endpoint": "flights_delay", "model": model, "image": "registry.local/flights:7"}
    return PackageSpec(**(fields | changes))


@pytest.fixture(scope="module")
def package(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "context"
    spec = _spec(model, base_digest="sha256:" + "a" * 64, has_grpc=True, log_claim="flights-log", min_replicas=2)
    write_package(spec, folder)
    return folder


def _documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


def test_the_context_is_complete(package, model):
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert files == {
        "Dockerfile", ".dockerignore", "README.md", "deployment.json", "entrypoint.sh", "requirements.lock",
        "model/MLmodel", "model/model.lgb", "manifests/kubernetes.yaml", "manifests/kserve.yaml",
        "manifests/knative.yaml", "manifests/vertex.json",
    }  # fmt: skip
    assert tree_digest(package / "model") == model.digest
    (variant,) = read_deployment(package / "deployment.json").variants
    assert (variant.model.digest, variant.model.version) == (model.digest, "7")


def test_the_image_is_pinned_and_not_root(package, model):
    text = (package / "Dockerfile").read_text()
    assert f"ARG BASE_DIGEST=sha256:{'a' * 64}\nFROM docker.io/library/python:3.11-slim@${{BASE_DIGEST}}" in text
    assert "\nUSER 10001:10001\n" in text
    assert "install -y --no-install-recommends libgomp1" in text
    assert "HEALTHCHECK" in text
    assert model.digest in text
    assert "\nRUN rm" not in text
    health = json.loads(re.search(r"HEALTHCHECK .* CMD (\[.*\])", text)[1])
    compile(health[2], "health", "exec")
    assert json.loads(re.search(r"ENTRYPOINT (\[.*\])", text)[1]) == ["/opt/mainspring/entrypoint.sh"]


def test_the_requirements_are_exact_and_hold_what_serving_imports(package):
    pins = (package / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    assert {"mainspring", "lightgbm", "numpy", "msgspec", "uvloop", "httptools", "grpcio", "protobuf", "scipy"} <= names
    assert not names & {"mlflow", "pytest", "scikit-learn", "torch"}


def test_kubernetes_takes_the_manifests(package):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in _documents(package / "manifests" / "kubernetes.yaml"):
        validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("name", ["kubernetes", "kserve", "knative", "vertex"])
def test_the_manifests_keep_to_the_schemas_of_their_platforms(package, name):
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    documents = _documents(next((package / "manifests").glob(f"{name}.*")))
    for document in documents:
        jsonschema.Draft202012Validator(schema).validate(document)
    if name == "kubernetes":
        assert [document["kind"] for document in documents] == [
            "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
        ]  # fmt: skip


def test_the_parts_of_the_kubernetes_manifests_fit_together(package):
    deployment, service, autoscaler, budget = _documents(package / "manifests" / "kubernetes.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
    ):  # fmt: skip
        assert selector.items() <= labels
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] == "flights-delay"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {port["name"] for port in container["ports"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "flights-log"


@pytest.mark.skipif(os.environ.get("MAINSPRING_LONG_TESTS") != "1", reason="importing Vertex AI's client takes long")
def test_vertex_takes_the_upload(package):
    aiplatform = pytest.importorskip("google.cloud.aiplatform_v1", reason="google-cloud-aiplatform is not installed")
    document = json.loads((package / "manifests" / "vertex.json").read_text())
    request = aiplatform.UploadModelRequest.from_json(json.dumps(document), ignore_unknown_fields=False)
    assert request.model.container_spec.predict_route == "/v1/models/flights_delay:predict"
    assert request.model.container_spec.ports[0].container_port == 8080
    assert re.fullmatch(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]", request.model.version_aliases[0])


def test_the_entrypoint_serves_the_pinned_model_with_the_platforms_port(package, tmp_path):
    root = tmp_path / "root"
    script = (package / "entrypoint.sh").read_text()
    for folder, source in (("/opt/mainspring", package), ("/var/lib/mainspring", root / "state")):
        script = script.replace(folder, str(source))
    (root / "state").mkdir(parents=True)
    document = read_deployment(package / "deployment.json")
    (variant,) = document.variants
    here = msgspec.structs.replace(variant.model, folder=str(package / "model"))
    moved = msgspec.structs.replace(document, variants=[msgspec.structs.replace(variant, model=here)])
    original = (package / "deployment.json").read_bytes()
    (package / "deployment.json").write_bytes(msgspec.json.encode(moved))
    (root / "entrypoint.sh").write_text(script)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PORT": "0"}
    command = ["/bin/sh", str(root / "entrypoint.sh"), "--host", "127.0.0.1"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
        url = _wait(root / "state" / "endpoint.json", process)
        body = json.dumps({"instances": [{"a": 0.9, "b": 0.9}]}).encode()
        request = urllib.request.Request(f"{url}/v1/models/flights_delay:predict", body)
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.headers["x-model-version"] == "7"
            assert json.loads(response.read())["predictions"][0] > 0.5
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        (package / "deployment.json").write_bytes(original)
        process.kill()
        process.wait()
        process.stderr.close()


def _wait(path: Path, process: subprocess.Popen) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists():
            url = json.loads(path.read_bytes())["url"].replace("0.0.0.0", "127.0.0.1")
            try:
                with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=30):
                    return url
            except OSError:
                pass
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.stderr.read().decode())


def test_a_wheel_and_a_lock_of_ones_own(model, tmp_path):
    wheel, lock = tmp_path / "mainspring-1-py3-none-any.whl", tmp_path / "own.txt"
    wheel.write_bytes(b"wheel")
    lock.write_text("numpy==2.0.0 \\\n    --hash=sha256:" + "0" * 64 + "\n# note\n")
    write_package(_spec(model), tmp_path / "out", PackageInputs(wheel=wheel, lock=lock))
    text = (tmp_path / "out" / "Dockerfile").read_text()
    assert "COPY wheels/" in text
    assert "ARG BASE_DIGEST\nFROM" in text
    assert (tmp_path / "out" / "wheels" / wheel.name).read_bytes() == b"wheel"
    assert (tmp_path / "out" / "requirements.lock").read_text() == lock.read_text()
    write_package(_spec(model), tmp_path / "two", PackageInputs(wheel=wheel))
    assert "mainspring==" not in (tmp_path / "two" / "requirements.lock").read_text()
    lock.write_text("numpy>=2\n")
    with pytest.raises(InvalidInput, match="not pinned"):
        write_package(_spec(model), tmp_path / "three", PackageInputs(lock=lock))


def test_nothing_is_left_of_a_package_that_cannot_be_made(model, tmp_path, monkeypatch):
    monkeypatch.setattr(requirements_module, "distribution", lambda name: _missing(name))
    with pytest.raises(Unavailable, match="not installed here"):
        write_package(_spec(model), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _missing(name: str) -> None:
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "Bad Image"}, "not the name of an image"),
        ({"base": "python:3.11; rm -rf /"}, "not the name of an image"),
        ({"base_digest": "sha256:1"}, "no digest"),
        ({"min_replicas": 3, "max_replicas": 2}, "replicas"),
        ({"memory": "lots"}, "no quantity"),
        ({"endpoint": "a'; rm -rf /; '"}, "not a usable name"),
    ],
)
def test_what_cannot_be_packaged_is_refused(model, tmp_path, changes, message):
    with pytest.raises(InvalidInput, match=message):
        write_package(_spec(model, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_model_is_not_packaged(model, tmp_path):
    with pytest.raises(Corrupt):
        write_package(_spec(msgspec.structs.replace(model, digest="sha256:" + "0" * 64)), tmp_path / "out")


def test_a_folder_with_something_in_it_is_left_alone(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AlreadyExists):
        write_package(_spec(model), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("flavours", "wanted"),
    [
        ({"sklearn": {}, "python_function": {"loader_module": "mlflow.sklearn"}}, {"scikit-learn"}),
        ({"xgboost": {}}, {"xgboost-cpu"}),
        ({"onnx": {}}, {"onnxruntime"}),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, {"mlflow-skinny", "pandas", "polars"}),
    ],
)
def test_each_flavour_brings_its_runtime(tmp_path, flavours, wanted):
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}))
    (tmp_path / "requirements.txt").write_text("mlflow==3\npolars>1 # fast\n-r other.txt\n")
    names = {pin.partition("==")[0] for pin in lock_requirements(tmp_path).pins}
    assert wanted <= names


@pytest.mark.parametrize(
    ("text", "name"), [("Flights_delay.v2", "flights-delay-v2"), ("2013", "m-2013"), ("a" * 80, "a" * 50), ("ü", "m")]
)
def test_names_for_kubernetes(text, name):
    assert dns_name(text) == name
