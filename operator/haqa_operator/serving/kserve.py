"""The winner as KServe's InferenceService, with exactly the pods that its Deployment would have.

An InferenceService with a container of one's own, and not an LLMInferenceService: that one merges templates of the
installation into what it is given, with another image, a start script and vLLM arguments of their own, and what serves
would not be what was measured. Nor a model format: the ServingRuntime would choose image and arguments.
"""

from __future__ import annotations

from typing import Any, Final

from haqa_operator.api.manifests import Manifest
from haqa_operator.serving.names import dns_label

API_VERSION: Final = "serving.kserve.io/v1beta1"
CONTAINER: Final = "kserve-container"
"""What KServe calls the only container of a predictor, whatever it was called before."""

_ANNOTATIONS: Final = {
    # A Deployment below it, not Knative; newer versions call it Standard and take this name too.
    "serving.kserve.io/deploymentMode": "RawDeployment",
    # minReplicas is the number of replicas, and no HorizontalPodAutoscaler is made (KServe 0.15 and later).
    "serving.kserve.io/autoscalerClass": "none",
}
_SUFFIX: Final = "-predictor"
"""Behind the name, for the Deployment and the Service that KServe makes."""
_LONGEST_NAME: Final = 63 - len(_SUFFIX)
_NO_LIMIT: Final = {"cpu": "1024", "memory": "16Ti"}
"""More than any node has. KServe sets limits that are not given: by default one core and 2 GiB."""


def inference_service_name(name: str) -> str:
    """The Deployment's name where KServe can take it, and a shorter one with a hash where it is too long."""
    return dns_label(name, longest=_LONGEST_NAME)


def service_address(name: str, namespace: str) -> str:
    """Host and port at which the InferenceService of that Deployment answers inside the cluster."""
    return f"{inference_service_name(name)}{_SUFFIX}.{namespace}:80"


def as_inference_service(deployment: Manifest) -> Manifest:
    """The InferenceService whose pods are those of a winner's Deployment (`build_deployment`).

    `minReplicas` is for the first write, as a Deployment's `replicas` is. The deadline of a rollout is KServe's.
    """
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = spec["template"]
    predictor: Manifest = {
        "minReplicas": spec["replicas"],
        "labels": template["metadata"]["labels"],
        "annotations": template["metadata"]["annotations"],
    }
    if strategy := spec.get("strategy"):
        predictor["deploymentStrategy"] = strategy
    (container,) = template["spec"]["containers"]
    pods = {**template["spec"], "containers": [_named_and_without_limits(container)]}
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {
            **metadata,
            "name": inference_service_name(metadata["name"]),
            "annotations": {**metadata.get("annotations", {}), **_ANNOTATIONS},
        },
        "spec": {"predictor": {**predictor, **pods}},
    }


def _named_and_without_limits(container: Manifest) -> Manifest:
    resources: dict[str, Any] = container["resources"]
    limits = {**_NO_LIMIT, **resources.get("limits", {})}
    return {**container, "name": CONTAINER, "resources": {**resources, "limits": limits}}
