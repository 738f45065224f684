"""The build context: a folder with everything an image is built from, and the manifests that run it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import yaml

from mainspring.core import AlreadyExists, InvalidInput
from mainspring.delivery.packaging import manifests
from mainspring.delivery.packaging.requirements import check_lock, lock_requirements, system_libraries
from mainspring.delivery.packaging.spec import (
    APP_FOLDER,
    GRPC_PORT,
    HTTP_PORT,
    MODEL_FOLDER,
    STATE_FOLDER,
    USER,
    PackageSpec,
    check_spec,
    label_value,
)
from mainspring.serving import Deployment, Variant, check_deployment
from mainspring.serving.mlmodel import check_tree


class PackageInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Files that go into the context beside the model."""

    wheel: Path | None = None
    """A wheel of mainspring to install instead of the released version."""
    lock: Path | None = None
    """A requirements file with exact versions, and hashes if it likes, instead of what is installed here."""


def write_package(spec: PackageSpec, folder: Path, inputs: PackageInputs | None = None) -> list[str]:
    """Write the context into a new folder and return the names of its files; it appears whole or not at all."""
    inputs = inputs or PackageInputs()
    check_spec(spec)
    _deployment(spec)
    source = Path(spec.model.folder)
    check_tree(source, spec.model.digest)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder} is there and not empty.", hint="Name a new folder, or delete it.")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        shutil.copytree(source, aside / "model")
        check_tree(aside / "model", spec.model.digest)
        for name, data in _files(spec, inputs):
            path = aside / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        (aside / "entrypoint.sh").chmod(0o755)
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)
    except OSError as error:
        raise InvalidInput(
            f"{folder} cannot be written: {error.strerror or error}.", hint="Check the folder."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _files(spec: PackageSpec, inputs: PackageInputs) -> Iterable[tuple[str, bytes]]:
    """Yield the files of the context but for the model."""
    wheel = inputs.wheel
    if wheel is not None:
        if wheel.suffix != ".whl" or not wheel.is_file():
            raise InvalidInput(f"{wheel} is no wheel.", hint="Build one: python -m build --wheel")
        yield f"wheels/{wheel.name}", wheel.read_bytes()
    if inputs.lock is not None:
        lock = check_lock(inputs.lock.read_text())
    else:
        model = Path(spec.model.folder)
        lock = lock_requirements(model, has_grpc=spec.has_grpc, with_ours=wheel is None).text()
    yield "requirements.lock", lock.encode()
    libraries = system_libraries(lock)
    yield "Dockerfile", dockerfile(spec, has_wheel=wheel is not None, libraries=libraries).encode()
    yield ".dockerignore", b"manifests\nREADME.md\n"
    yield "entrypoint.sh", entrypoint(spec).encode()
    yield "deployment.json", msgspec.json.format(msgspec.json.encode(_deployment(spec)))
    yield "manifests/kubernetes.yaml", _yaml(manifests.kubernetes(spec))
    yield "manifests/kserve.yaml", _yaml([manifests.kserve(spec)])
    yield "manifests/knative.yaml", _yaml([manifests.knative(spec)])
    yield "manifests/vertex.json", msgspec.json.format(msgspec.json.encode(manifests.vertex(spec)))
    yield "README.md", _readme(spec).encode()


def dockerfile(spec: PackageSpec, *, has_wheel: bool, libraries: Sequence[str] = ()) -> str:
    """Return the recipe of the image: base by digest, exact versions, read-only model, a user that is not root."""
    digest = f"={spec.base_digest}" if spec.base_digest else ""
    apt = (
        f"RUN apt-get update && apt-get install -y --no-install-recommends {' '.join(libraries)} \\\n"
        if libraries
        else ""
    )
    apt += " && rm -rf /var/lib/apt/lists/*\n" if libraries else ""
    wheels = "COPY wheels/ ./wheels/\n" if has_wheel else ""
    install_wheel = " && pip install --no-deps ./wheels/*.whl" if has_wheel else ""
    grpc = f" {GRPC_PORT}" if spec.has_grpc else ""
    health = f"http://127.0.0.1:{HTTP_PORT}/v2/health/ready"
    check = f"import sys, urllib.request as r; sys.exit(r.urlopen('{health}', timeout=2).status != 200)"
    verify = (
        f"from pathlib import Path; from mainspring.serving.mlmodel import check_tree; "
        f"check_tree(Path('{MODEL_FOLDER}'), '{spec.model.digest}')"
    )
    return f"""\
# {label_value(spec.model.name)} version {spec.model.version}, {spec.model.digest}
ARG BASE_DIGEST{digest}
FROM {spec.base}@${{BASE_DIGEST}}

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
{apt}RUN groupadd --gid {USER} mainspring \\
 && useradd --uid {USER} --gid {USER} --no-create-home --home-dir {STATE_FOLDER} --shell /usr/sbin/nologin mainspring \\
 && install -d -o {USER} -g {USER} -m 0700 {STATE_FOLDER}
WORKDIR {APP_FOLDER}

COPY requirements.lock ./
{wheels}RUN pip install --no-deps --requirement requirements.lock{install_wheel}
COPY --chmod=0444 deployment.json ./
COPY --chmod=0555 entrypoint.sh ./
COPY model/ {MODEL_FOLDER}/
RUN python -c "{verify}"

USER {USER}:{USER}
VOLUME {STATE_FOLDER}
EXPOSE {HTTP_PORT}{grpc}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-c", "{check}"]
LABEL org.opencontainers.image.title="{spec.endpoint}" org.opencontainers.image.version="{spec.model.version}" \\
      mainspring.model.digest="{spec.model.digest}"
ENTRYPOINT ["{APP_FOLDER}/entrypoint.sh"]
"""


def entrypoint(spec: PackageSpec) -> str:
    """Return the script that starts the endpoint: flags of the platform are passed on, the process takes its place.

    The deployment file names the digest; the endpoint hashes the model again before it loads it. Whoever runs the
    container decides who may call it: with MAINSPRING_TOKEN set, callers need that token.
    """
    anonymous = '$([ -n "${MAINSPRING_TOKEN:-}" ] || echo --allow-anonymous)'
    return f"""\
#!/bin/sh
set -eu
cp -f {APP_FOLDER}/deployment.json {STATE_FOLDER}/deployment.json.part
mv {STATE_FOLDER}/deployment.json.part {STATE_FOLDER}/deployment.json
exec python -m mainspring.serving --endpoint '{spec.endpoint}' --folder {STATE_FOLDER} --host 0.0.0.0 \\
  --workers {spec.workers} {anonymous} "$@"
"""


def _deployment(spec: PackageSpec) -> Deployment:
    model = msgspec.structs.replace(spec.model, folder=MODEL_FOLDER)
    variant = Variant(name="champion", weight=100, model=model)
    return check_deployment(Deployment(endpoint=spec.endpoint, revision=1, variants=[variant]))


def _yaml(documents: list[manifests.Document]) -> bytes:
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True).encode()


def _readme(spec: PackageSpec) -> str:
    argument = "" if spec.base_digest else " --build-arg BASE_DIGEST=sha256:…"
    return f"""\
# {spec.endpoint}: {label_value(spec.model.name)} version {spec.model.version}

    podman build{argument} -t {spec.image} .
    podman run --read-only --tmpfs /tmp -v state:{STATE_FOLDER} -p {HTTP_PORT}:{HTTP_PORT} {spec.image}

Model: `{spec.model.digest}`, hashed when the image is built and again whenever the endpoint starts.
The prediction log is in `{STATE_FOLDER}`: what is mounted there decides how long it lives. On Knative and Cloud Run
it is gone with the instance; on Kubernetes pass `--log-claim` to keep it.
Set `MAINSPRING_TOKEN` unless the platform checks who calls.

| file | for |
|---|---|
| `manifests/kubernetes.yaml` | `kubectl apply -f`: Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget |
| `manifests/kserve.yaml` | `kubectl apply -f` where KServe runs |
| `manifests/knative.yaml` | `kubectl apply -f` where Knative runs, or `gcloud run services replace` |
| `manifests/vertex.json` | body of `projects.locations.models:upload` |
"""
