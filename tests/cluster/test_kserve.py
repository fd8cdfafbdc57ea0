"""A winner as KServe's InferenceService, against KServe's own definition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.building import inference_service_definition
from tests.cluster.kubectl import Kubectl, Refused, has_condition
from tests.unit.serving.engine_pods import L40S, MEASURED, VOLUMES, make_pod

from haqa_operator.api.manifests import Manifest
from haqa_operator.serving.deployment import build_deployment
from haqa_operator.serving.kserve import as_inference_service
from haqa_operator.serving.pod import EnginePod

pytestmark = pytest.mark.nightly

NAME = "inferenceservices.serving.kserve.io"
PODS = {"cpu": make_pod(), "nvidia": make_pod(L40S, model=VOLUMES["fetched"])}


def built(pod: EnginePod, namespace: str) -> Manifest:
    return as_inference_service(build_deployment(pod, MEASURED, name="demo-here", namespace=namespace))


def lost(given: Any, stored: Any, path: str = "spec") -> list[str]:
    """What was given and is not there; what the definition adds by default does not count."""
    match given, stored:
        case dict(), dict():
            return [one for key, inner in given.items() for one in lost(inner, stored.get(key), f"{path}.{key}")]
        case list(), list() if len(given) == len(stored):
            pairs = enumerate(zip(given, stored, strict=True))
            return [one for i, (inner, kept) in pairs for one in lost(inner, kept, f"{path}[{i}]")]
        case _:
            return [] if given == stored else [f"{path}: {given} is {stored}"]


@pytest.fixture(scope="module", params=["v0.15.2", "v0.20.0"])
def known(cluster: Kubectl, request: pytest.FixtureRequest) -> Iterator[None]:
    """A cluster that knows InferenceService, without KServe's own webhooks."""
    cluster.run("apply", "--server-side", "-f", str(inference_service_definition(request.param)))
    cluster.wait_for("customresourcedefinition", NAME, has_condition("Established"), "established", 60)
    yield
    cluster.run("delete", "customresourcedefinition", NAME)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_the_definition_takes_every_field_and_keeps_it(known: None, kubectl: Kubectl, pod: EnginePod) -> None:
    made = built(pod, kubectl.namespace)
    given = json.dumps(made)
    kubectl.run("apply", "--server-side", "--validate=strict", "-f", "-", stdin=given)
    stored = kubectl.get("inferenceservice", made["metadata"]["name"])
    assert lost(made["spec"], stored["spec"]) == []
    before = stored["metadata"]["resourceVersion"]
    kubectl.run("apply", "--server-side", "--validate=strict", "-f", "-", stdin=given)
    assert kubectl.get("inferenceservice", made["metadata"]["name"])["metadata"]["resourceVersion"] == before


def test_a_field_that_kserve_does_not_have_is_noticed(known: None, kubectl: Kubectl) -> None:
    made = built(PODS["cpu"], kubectl.namespace)
    made["spec"]["predictor"]["replicas"] = 2
    with pytest.raises(Refused, match="replicas"):
        kubectl.run("apply", "--server-side", "--validate=strict", "-f", "-", stdin=json.dumps(made))
