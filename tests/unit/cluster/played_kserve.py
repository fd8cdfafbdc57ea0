"""KServe's part, played: it makes a Deployment of every InferenceService."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import Operated

from haqa_operator.cluster.edges.api_server import INFERENCE_SERVICE


def kserve(operated: Operated) -> None:
    """What KServe makes of InferenceServices."""
    for service in operated.cluster.api.list(INFERENCE_SERVICE, NAMESPACE):
        predictor = service["spec"]["predictor"]
        name = f"{service['metadata']['name']}-predictor"
        labels = {**predictor["labels"], "app": f"isvc.{name}"}
        operated.cluster.api.stand_in(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "replicas": predictor.get("minReplicas", 1),
                    "selector": {"matchLabels": {"app": f"isvc.{name}"}},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": predictor["containers"]}},
                },
            },
            "kserve",
        )


def with_kserve(operated: Operated, until: Callable[[], bool]) -> None:
    for _ in range(40):
        operated.reconcile()
        if until():
            return
        kserve(operated)
        operated.cluster.step()
    raise AssertionError(f"{operated.pool('full')} {operated.errors[-2:]}")
