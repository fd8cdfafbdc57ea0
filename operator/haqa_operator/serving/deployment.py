"""The winner as manifests: a Deployment and a Service that say where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from haqa_contract import Configuration, Estimate
from haqa_operator.api.labels import MANAGED_BY, POOL_LABEL, PREFIX, TUNING_LABEL
from haqa_operator.api.manifests import Manifest, ManifestDumper
from haqa_operator.api.metrics import LATENCIES, MetricKey, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.serving.names import dns_label, label_value
from haqa_operator.serving.pod import EnginePod, pod_spec
from haqa_operator.serving.volumes import LinkedVolume

INSTANCE: Final = "app.kubernetes.io/instance"
"""On the winner's pods, which its Deployment and Service select by it, and on nothing else."""

_PROGRESS_SPARE_S = 600
"""Beside the engine's start: scheduling, pulling an image of several GiB."""


@dataclass(frozen=True)
class Provenance:
    """Which measurement a Deployment comes from; written into its annotations.

    Attributes:
        metrics: The trial's numbers by metric key.
        artifact_digest: None for the unquantized model.
    """

    tuning: str
    trial: str
    pool: str
    configuration: Configuration
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    artifact_digest: str | None = None
    engine_version: str | None = None

    @classmethod
    def of(cls, trial: Trial) -> Provenance:
        """What a finished trial says, reduced to the metrics that a person would ask for."""
        return cls(
            tuning=trial.tuning,
            trial=trial.name,
            pool=trial.pool,
            configuration=trial.configuration,
            metrics={key: value for key, value in trial.status.metrics.items() if _is_headline(MetricKey.parse(key))},
            artifact_digest=trial.status.artifact_digest,
            engine_version=trial.status.engine_version,
        )


def deployment_name(tuning: str, pool: str) -> str:
    """Name of the Deployment and the Service where the tuning gives none."""
    return dns_label(tuning, pool)


def build_deployment(
    pod: EnginePod, provenance: Provenance, *, name: str, namespace: str | None = None, replicas: int = 1
) -> Manifest:
    """The Deployment of a winner.

    Args:
        replicas: At creation; whoever applies this again leaves the field to its owner.
    """
    labels = _labels(name, provenance)
    template_annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(pod.launch.port),
        "prometheus.io/path": "/metrics",
    }
    if provenance.artifact_digest:
        # Another artifact under the same path has to roll the pods too.
        template_annotations[f"{PREFIX}artifact-digest"] = provenance.artifact_digest
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, namespace, labels) | {"annotations": _annotations(provenance)},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": _progress_deadline_s(pod),
            # What serves goes on until what replaces it is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": _selector(name)},
            "template": {
                "metadata": {
                    "labels": pod.template.labels | labels,
                    "annotations": pod.template.annotations | template_annotations,
                },
                "spec": pod_spec(pod) | {"topologySpreadConstraints": _spread(name)},
            },
        },
    }


def build_disruption_budget(provenance: Provenance, *, name: str, namespace: str | None = None) -> Manifest:
    """Drained nodes take one replica at a time; a single one may be taken, or its node could not be drained at all."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(name, namespace, _labels(name, provenance)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(name)}},
    }


def build_service(pod: EnginePod, provenance: Provenance, *, name: str, namespace: str | None = None) -> Manifest:
    """The Service in front of it: the OpenAI-compatible API inside the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, namespace, _labels(name, provenance)),
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(name),
            "ports": [{"name": "http", "port": pod.launch.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def render_yaml(documents: Iterable[Manifest], comment: str = "") -> str:
    """Several manifests as one YAML file, keys in the order in which they were built.

    Args:
        comment: Put in front, every line behind a `#`.
    """
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    body = yaml.dump_all(
        documents, Dumper=ManifestDumper, sort_keys=False, explicit_start=True, width=10_000, allow_unicode=True
    )
    return head + body


def _progress_deadline_s(pod: EnginePod) -> int:
    """The start, as often again where the model is fetched before it, and what comes before both."""
    fetched = isinstance(pod.model, LinkedVolume) and pod.model.fetching is not None
    return int(pod.launch.startup_timeout_s) * (2 if fetched else 1) + _PROGRESS_SPARE_S


def _metadata(name: str, namespace: str | None, labels: dict[str, str]) -> Manifest:
    # Argo CD's label tracking takes whatever has this label and no owner for a part of the application of that name,
    # and prunes it.
    labels = {key: value for key, value in labels.items() if key != INSTANCE}
    return {"name": name} | ({"namespace": namespace} if namespace else {}) | {"labels": labels}


def _spread(name: str) -> list[Manifest]:
    """Replicas on different nodes and zones, where there are any."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": _selector(name)},
            # Old and new pods of a rollout are not counted together.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _selector(name: str) -> dict[str, str]:
    """Never changes for a name: a Deployment's selector is immutable."""
    return {"app.kubernetes.io/name": "vllm", INSTANCE: name}


def _labels(name: str, provenance: Provenance) -> dict[str, str]:
    labels = _selector(name) | {
        "app.kubernetes.io/component": "inference",
        **MANAGED_BY,
        TUNING_LABEL: label_value(provenance.tuning),
        POOL_LABEL: label_value(provenance.pool),
    }
    if provenance.engine_version:
        labels["app.kubernetes.io/version"] = label_value(provenance.engine_version)
    return labels


def _annotations(provenance: Provenance) -> dict[str, str]:
    metrics = {
        key: {"value": _rounded(estimate.value), "low": _rounded(estimate.low), "high": _rounded(estimate.high)}
        for key, estimate in sorted(provenance.metrics.items())
    }
    values = {
        "tuning": provenance.tuning,
        "trial": provenance.trial,
        "pool": provenance.pool,
        "configuration": provenance.configuration.describe(),
        "artifact-digest": provenance.artifact_digest,
        "engine-version": provenance.engine_version,
        "metrics": json.dumps(metrics, separators=(",", ":")) if metrics else None,
    }
    return {f"{PREFIX}{name}": value for name, value in values.items() if value}


def _is_headline(key: MetricKey) -> bool:
    if key.metric in LATENCIES:
        return key.percentile == 95
    return key.metric in ("throughput", "throughputPerCost") or is_accuracy(key.metric)


def _rounded(value: float) -> float:
    """Six significant digits: more than any measurement has, and the same text on every machine."""
    return float(f"{value:.6g}")
