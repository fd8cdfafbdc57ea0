"""KServe's InferenceService has the pods of the winner's Deployment, and KServe has nothing to put in their place."""

from __future__ import annotations

import pytest
from tests.unit.serving.engine_pods import CPU, L40S, MEASURED, VOLUMES, make_pod

from haqa_operator.api.manifests import Manifest
from haqa_operator.serving.deployment import build_deployment
from haqa_operator.serving.kserve import as_inference_service, inference_service_name, service_address
from haqa_operator.serving.pod import EnginePod

PODS = {
    "cpu": make_pod(),
    "nvidia": make_pod(L40S, model=VOLUMES["fetched"]),
}
every_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS)


def deployment(pod: EnginePod, replicas: int = 1) -> Manifest:
    return build_deployment(pod, MEASURED, name="demo-here", namespace="serving", replicas=replicas)


@every_pod
def test_its_pods_are_the_deployments(pod: EnginePod) -> None:
    template = deployment(pod)["spec"]["template"]
    predictor = as_inference_service(deployment(pod))["spec"]["predictor"]
    assert predictor["labels"] == template["metadata"]["labels"]
    assert predictor["annotations"] == template["metadata"]["annotations"]
    (measured,), (served,) = template["spec"]["containers"], predictor["containers"]
    others = template["spec"].keys() - {"containers"}
    assert {field: predictor[field] for field in others} == {field: template["spec"][field] for field in others}
    assert served["name"] == "kserve-container"
    for field in measured.keys() - {"name", "resources"}:
        assert served[field] == measured[field]


@every_pod
def test_kserve_has_no_request_or_limit_to_set(pod: EnginePod) -> None:
    (measured,) = deployment(pod)["spec"]["template"]["spec"]["containers"]
    (served,) = as_inference_service(deployment(pod))["spec"]["predictor"]["containers"]
    for kind in ("requests", "limits"):
        assert {"cpu", "memory"} <= served["resources"][kind].keys()
        assert measured["resources"].get(kind, {}).items() <= served["resources"][kind].items()


@pytest.mark.parametrize("replicas", [0, 1, 3])
def test_replicas_are_set_once_and_scaled_by_nobody(replicas: int) -> None:
    found = as_inference_service(deployment(make_pod(CPU), replicas))
    assert found["spec"]["predictor"]["minReplicas"] == replicas
    # It would be a limit for whoever scales by minReplicas.
    assert "maxReplicas" not in found["spec"]["predictor"]
    annotations = found["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "RawDeployment"
    assert annotations["serving.kserve.io/autoscalerClass"] == "none"
    assert annotations["haqa.dev/trial"] == MEASURED.trial


@pytest.mark.parametrize(
    ("name", "same"), [("chat-l40s", True), ("a" * 53, True), ("a" * 54, False), ("a" * 63, False)]
)
def test_names_leave_room_for_what_kserve_makes(name: str, same: bool) -> None:
    found = inference_service_name(name)
    assert (found == name) == same
    assert len(f"{found}-predictor") <= 63
    assert service_address(name, "serving") == f"{found}-predictor.serving:80"


def test_two_long_names_stay_two() -> None:
    assert inference_service_name("a" * 60) != inference_service_name("a" * 61)
