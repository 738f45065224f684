"""The package's manifests, as documents: Kubernetes, KServe, Knative and Cloud Run, Vertex AI."""

from __future__ import annotations

from typing import Any, TypeAlias

from mainspring.delivery.packaging.spec import (
    DRAIN_SECONDS,
    GRPC_PORT,
    HTTP_PORT,
    STATE_FOLDER,
    USER,
    PackageSpec,
    dns_name,
)

Document: TypeAlias = dict[str, Any]
"""A manifest: what it may hold is said by its platform's schema, not by us."""
_READY = "/v2/health/ready"
_LIVE = "/v2/health/live"


def kubernetes(spec: PackageSpec) -> list[Document]:
    """Return a Deployment, a Service, a HorizontalPodAutoscaler and a PodDisruptionBudget."""
    return [_deployment(spec), _service(spec), _autoscaler(spec), _disruption_budget(spec)]


def kserve(spec: PackageSpec) -> Document:
    """Return an InferenceService; KServe makes the rest of it, and takes one port."""
    container = _container(spec) | {"name": "kserve-container", "ports": _ports(spec)[:1]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": spec.name, "labels": dict(spec.labels), "annotations": _annotations(spec)},
        "spec": {
            "predictor": {
                "minReplicas": spec.min_replicas,
                "maxReplicas": spec.max_replicas,
                "scaleMetric": "cpu",
                "scaleTarget": spec.cpu_percent,
                "containers": [container],
                "volumes": _volumes(spec),
                "securityContext": _pod_security(),
            }
        },
    }


def knative(spec: PackageSpec) -> Document:
    """Return a Knative service, which Cloud Run takes too; the prediction log lives as long as the instance.

    The platforms choose the port and tell it in ``$PORT``; ten seconds after SIGTERM the instance is gone.
    """
    container = {
        "image": spec.image,
        "ports": [{"name": "http1", "containerPort": HTTP_PORT}],
        "env": _env(),
        "resources": {"limits": {"cpu": spec.cpu, "memory": spec.memory}},
        "startupProbe": {"httpGet": {"path": _READY}, "periodSeconds": 2, "failureThreshold": 60, "timeoutSeconds": 2},
        "livenessProbe": {"httpGet": {"path": _LIVE}, "periodSeconds": 10, "timeoutSeconds": 2},
    }
    scale = {
        "autoscaling.knative.dev/minScale": str(spec.min_replicas),
        "autoscaling.knative.dev/maxScale": str(spec.max_replicas),
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": spec.name, "annotations": _annotations(spec)},
        "spec": {
            "template": {
                "metadata": {"annotations": scale},
                "spec": {"containerConcurrency": 80, "timeoutSeconds": 60, "containers": [container]},
            }
        },
    }


def vertex(spec: PackageSpec) -> Document:
    """Return the request that uploads the model to Vertex AI: ``projects.locations.models:upload``."""
    return {
        "model": {
            "displayName": spec.endpoint[:128],
            "versionAliases": [dns_name(f"v-{spec.model.version}")],
            "versionDescription": f"{spec.model.name} version {spec.model.version}, {spec.model.digest}",
            "containerSpec": {
                "imageUri": spec.image,
                "ports": [{"containerPort": HTTP_PORT}],
                "predictRoute": f"/v1/models/{spec.endpoint}:predict",
                "healthRoute": "/health",
                "env": _env(),
            },
            "labels": {"managed-by": "mainspring"},
        }
    }


def _deployment(spec: PackageSpec) -> Document:
    pod = {
        "securityContext": _pod_security(),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS,
        "containers": [
            _container(spec)
            | {
                "name": "endpoint",
                "ports": _ports(spec),
                "startupProbe": _probe(_READY, period=2, failures=60),
                "readinessProbe": _probe(_READY, period=2, failures=2),
                "livenessProbe": _probe(_LIVE, period=10, failures=3),
            }
        ],
        "volumes": _volumes(spec),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.name, "labels": dict(spec.labels), "annotations": _annotations(spec)},
        "spec": {
            "replicas": spec.min_replicas,
            "selector": {"matchLabels": _selector(spec)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": dict(spec.labels), "annotations": _scraping()}, "spec": pod},
        },
    }


def _service(spec: PackageSpec) -> Document:
    ports = [{"name": port["name"], "port": port["containerPort"], "targetPort": port["name"]} for port in _ports(spec)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": spec.name, "labels": dict(spec.labels)},
        "spec": {"type": "ClusterIP", "selector": _selector(spec), "ports": ports},
    }


def _autoscaler(spec: PackageSpec) -> Document:
    target = {"type": "Utilization", "averageUtilization": spec.cpu_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": spec.name, "labels": dict(spec.labels)},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
            "minReplicas": spec.min_replicas,
            "maxReplicas": spec.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }


def _disruption_budget(spec: PackageSpec) -> Document:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": spec.name, "labels": dict(spec.labels)},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(spec)}},
    }


def _container(spec: PackageSpec) -> Document:
    """Return what the container is on every kind of Kubernetes: not root, nothing writable but its state."""
    return {
        "image": spec.image,
        "args": ["--prestop", "5", *(["--grpc-port", str(GRPC_PORT)] if spec.has_grpc else [])],
        "env": _env(),
        "resources": {
            "requests": {"cpu": spec.cpu, "memory": spec.memory},
            "limits": {"memory": spec.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "state", "mountPath": STATE_FOLDER}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _ports(spec: PackageSpec) -> list[Document]:
    grpc = [{"name": "h2c", "containerPort": GRPC_PORT, "protocol": "TCP"}] if spec.has_grpc else []
    return [{"name": "http1", "containerPort": HTTP_PORT, "protocol": "TCP"}, *grpc]


def _probe(path: str, *, period: int, failures: int) -> Document:
    return {
        "httpGet": {"path": path, "port": "http1"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _volumes(spec: PackageSpec) -> list[Document]:
    state: Document = {"name": "state", "emptyDir": {}}
    if spec.log_claim:
        state = {"name": "state", "persistentVolumeClaim": {"claimName": spec.log_claim}}
    return [state, {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]


def _pod_security() -> Document:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _env() -> list[Document]:
    """One thread per library: processes and batches use the cores, not each model call all of them."""
    return [{"name": "OMP_NUM_THREADS", "value": "1"}]


def _annotations(spec: PackageSpec) -> Document:
    return {"mainspring/model": f"{spec.model.name}/{spec.model.version}", "mainspring/digest": spec.model.digest}


def _scraping() -> Document:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(HTTP_PORT), "prometheus.io/path": "/metrics"}


def _selector(spec: PackageSpec) -> Document:
    return {"app.kubernetes.io/name": spec.name}
