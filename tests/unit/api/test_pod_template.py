"""What pods may be given by a tuning is checked with a sentence; what would loosen them has no field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.api.rule_cases import POD_TEMPLATE, tuning

from haqa_operator.api import NodePool, SpecError
from haqa_operator.api.affinity import Affinity
from haqa_operator.api.loading import parse_tuning
from haqa_operator.api.pod_template import PodTemplate
from haqa_operator.api.quantities import parse_quantity


def problem(pool: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as refused:
        parse_tuning(tuning({"nodePools": [{"name": "a"} | pool]}))
    (sentence,) = refused.value.problems
    return sentence


def required(*requirements: dict[str, Any]) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(requirements)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ({"labels": {"haqa.dev/x": "1"}}, "labels: haqa.dev/x is HAQA's or Kubernetes' own; leave it out"),
        ({"labels": {"no good": "1"}}, "labels: 'no good' is no name that Kubernetes takes; use at most 63 letters"),
        ({"labels": {"team": "a b"}}, "nodePools[0].podTemplate.labels.team: 'a b' is not allowed"),
        ({"supplementalGroups": [0]}, "nodePools[0].podTemplate.supplementalGroups[0]: 0 is not allowed"),
        ({"runtimeClassName": "NVIDIA"}, "nodePools[0].podTemplate.runtimeClassName: 'NVIDIA' is not allowed"),
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}, "imagePullSecrets: 'a' is there twice"),
        ({"securityContext": {"privileged": True}}, "podTemplate.securityContext: unknown field"),
        ({"hostNetwork": True}, "podTemplate.hostNetwork: unknown field"),
        ({"volumes": []}, "podTemplate.volumes: unknown field"),
        ({"resources": {"requests": {"cpu": "many"}}}, "podTemplate.resources.requests.cpu: 'many' is not allowed"),
        ({"resources": {"requests": {"nvidia.com/gpu": 1}}}, "podTemplate.resources.requests.nvidia.com/gpu: unknown"),
        (
            {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1500Mi"}}},
            "requests.memory 2Gi is above limits.memory 1500Mi; lower it, or raise that",
        ),
        (
            {"affinity": {"nodeAffinty": {}}},
            "affinity.nodeAffinty: unknown field (value {}); did you mean nodeAffinity?",
        ),
        ({"affinity": required({"key": "gpu", "operator": "In"})}, "gpu In: give the values"),
        ({"affinity": required({"key": "gpu", "operator": "Exists", "values": ["x"]})}, "gpu Exists: takes no values"),
        ({"affinity": required({"key": "n", "operator": "Gt", "values": ["a lot"]})}, "n Gt: give one whole number"),
        ({"affinity": required({"key": "n", "operator": "Is", "values": ["1"]})}, "operator: 'Is' is not allowed"),
        ({"affinity": required({"key": "n", "operator": "In", "values": ["a b"]})}, "'a b' is no value that a label"),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "topologyKey is missing",
        ),
        (
            {
                "affinity": {
                    "podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "z", "matchLabelKeys": ["a"]}
                        ]
                    }
                }
            },
            "matchLabelKeys and mismatchLabelKeys need a labelSelector",
        ),
    ],
)
def test_what_pods_cannot_be_given_is_said(template: dict[str, Any], sentence: str) -> None:
    assert sentence in problem({"podTemplate": template})


def test_selector_and_affinity_that_exclude_each_other_are_refused() -> None:
    pool = {
        "nodeSelector": {"gpu": "l40s", "zone": "a"},
        "podTemplate": {"affinity": required({"key": "gpu", "operator": "NotIn", "values": ["l40s"]})},
    }
    assert "nodeSelector gpu=l40s and podTemplate.affinity exclude each other; no node can meet both" in problem(pool)


def test_one_term_that_may_hold_is_enough() -> None:
    terms = [
        {"matchExpressions": [{"key": "gpu", "operator": "NotIn", "values": ["l40s"]}]},
        {"matchExpressions": [{"key": "spot", "operator": "Exists"}]},
    ]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    NodePool.model_validate({"name": "a", "nodeSelector": {"gpu": "l40s"}, "podTemplate": {"affinity": affinity}})


@pytest.mark.parametrize("name", ["gpu", "nvidia.com/", "nvidia.com/gpu/x", "NVIDIA.com/gpu", "-/x"])
def test_a_device_resource_has_a_domain(name: str) -> None:
    assert f"nodePools[0].deviceResource: {name!r} is not allowed" in problem({"deviceResource": name})


@pytest.mark.parametrize(
    ("labels", "name", "admitted"),
    [
        ({"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}, "n", True),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "24000"}, "n", False),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "much"}, "n", False),
        ({"nvidia.com/gpu.product": "NVIDIA-H100", "nvidia.com/gpu.memory": "81559"}, "n", False),
        ({}, "gpu-7", True),
    ],
)
def test_affinity_admits_the_nodes_that_the_scheduler_takes(labels: dict[str, str], name: str, admitted: bool) -> None:
    affinity = PodTemplate.model_validate(POD_TEMPLATE).affinity
    assert affinity is not None
    assert affinity.admits(labels, name) is admitted


def test_without_requirements_every_node_is_admitted_and_an_empty_term_admits_none() -> None:
    assert Affinity().admits({}, "n")
    empty: dict[str, Any] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}
    }
    assert not Affinity.model_validate(empty).admits({}, "n")


@pytest.mark.parametrize(
    ("operator", "values", "value", "meets"),
    [
        ("In", ["a", "b"], "a", True),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], "a", False),
        ("NotIn", ["a"], None, True),
        ("Exists", [], "", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], None, True),
        ("DoesNotExist", [], "a", False),
        ("Lt", ["5"], "4", True),
        ("Lt", ["5"], "5", False),
        ("Gt", ["5"], None, False),
    ],
)
def test_operators_mean_what_kubernetes_means(operator: str, values: list[str], value: str | None, meets: bool) -> None:
    affinity = Affinity.model_validate(required({"key": "k", "operator": operator, "values": values}))
    assert affinity.admits({"k": value} if value is not None else {}, "n") is meets


KEYS, VALUES = st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", "x"])
REQUIREMENTS = (
    st.builds(
        lambda k, o, v: {"key": k, "operator": o, "values": v},
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1, max_size=2),
    )
    | st.builds(lambda k, o: {"key": k, "operator": o}, KEYS, st.sampled_from(["Exists", "DoesNotExist"]))
    | st.builds(
        lambda k, o, v: {"key": k, "operator": o, "values": [v]},
        KEYS,
        st.sampled_from(["Gt", "Lt"]),
        st.sampled_from(["1", "2"]),
    )
)


@given(
    st.lists(REQUIREMENTS, min_size=1, max_size=3),
    st.dictionaries(KEYS, VALUES, max_size=2),
    st.dictionaries(KEYS, VALUES, max_size=2),
)
def test_a_contradiction_is_one_for_every_node_that_the_selector_takes(
    requirements: list[dict[str, Any]], selector: dict[str, str], more: dict[str, str]
) -> None:
    affinity = Affinity.model_validate(required(*requirements))
    if affinity.contradiction(selector) is not None:
        assert not affinity.admits(more | selector, "n")


@pytest.mark.parametrize(("text", "number"), [("8", 8), ("500m", 0.5), ("1.5Gi", 1.5 * 2**30), ("100G", 1e11)])
def test_quantities_are_kubernetes(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)
