"""What is packaged: one model version, the image it becomes, and how many of it run."""

from __future__ import annotations

import re

import msgspec

from mainspring.core import InvalidInput
from mainspring.serving import ModelReference

HTTP_PORT, GRPC_PORT = 8080, 8081
USER = 10_001
"""The user of the container, by number so that Kubernetes can see that it is not root."""
MODEL_FOLDER = "/opt/ml/model"
APP_FOLDER = "/opt/mainspring"
STATE_FOLDER = "/var/lib/mainspring"
"""The only folder that is written to: the deployment file and the prediction log."""
DRAIN_SECONDS = 30

_IMAGE = re.compile(r"[a-z0-9]+([._/:-][a-zA-Z0-9._-]+)*(@sha256:[0-9a-f]{64})?")
_QUANTITY = re.compile(r"[1-9][0-9]*(m|Mi|Gi)?")


class PackageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the files of a package follow from."""

    endpoint: str
    model: ModelReference
    image: str
    """Name of the image to be, with a tag or, once it is pushed, a digest."""
    base: str = "docker.io/library/python:3.11-slim"
    base_digest: str = ""
    """``sha256:…`` of the base image; empty makes it an argument the build needs."""
    cpu: str = "1"
    memory: str = "512Mi"
    min_replicas: int = 1
    max_replicas: int = 5
    cpu_percent: int = 70
    """Use of the requested CPU that the autoscaler aims for."""
    workers: int = 1
    log_claim: str = ""
    """Name of a PersistentVolumeClaim for the prediction log; empty loses it with the pod."""
    has_grpc: bool = False

    @property
    def name(self) -> str:
        """The endpoint's name as Kubernetes takes it: RFC 1123."""
        return dns_name(self.endpoint)

    @property
    def labels(self) -> list[tuple[str, str]]:
        """What every object of the package is labelled with."""
        return [
            ("app.kubernetes.io/name", self.name),
            ("app.kubernetes.io/managed-by", "mainspring"),
            ("app.kubernetes.io/version", label_value(self.model.version)),
        ]


def check_spec(spec: PackageSpec) -> PackageSpec:
    """Return the spec if it can be packaged; raise `InvalidInput` that says what cannot."""
    if not _IMAGE.fullmatch(spec.image) or len(spec.image) > 300:
        raise InvalidInput(f"{spec.image[:100]!r} is not the name of an image.", hint="Pass --image NAME:TAG.")
    if not _IMAGE.fullmatch(spec.base) or "@" in spec.base:
        raise InvalidInput(f"{spec.base[:100]!r} is not the name of an image.", hint="Pass --base NAME:TAG@sha256:…")
    if spec.base_digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", spec.base_digest):
        raise InvalidInput(f"{spec.base_digest[:80]!r} is no digest.", hint="Pass --base NAME:TAG@sha256:…")
    if not 1 <= spec.min_replicas <= spec.max_replicas:
        raise InvalidInput(
            f"{spec.min_replicas} to {spec.max_replicas} replicas make no sense.", hint="Pass --replicas 1-5."
        )
    for name, value in (("cpu", spec.cpu), ("memory", spec.memory)):
        if not _QUANTITY.fullmatch(value):
            raise InvalidInput(f"{name} {value[:30]!r} is no quantity.", hint="Write 500m or 2; 512Mi or 2Gi.")
    return spec


def dns_name(text: str) -> str:
    """Return a name of at most 50 letters, digits and dashes, beginning with a letter and not ending with a dash.

    >>> dns_name("Flights_delay.v2")
    'flights-delay-v2'
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-")
    return name if name[:1].isalpha() else f"m-{name}".strip("-")


def label_value(text: str) -> str:
    """Return a text as the value of a label: 63 characters at most, letters and digits at its ends."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")
