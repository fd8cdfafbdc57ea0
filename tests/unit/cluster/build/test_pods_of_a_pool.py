"""What a pool says of its pods is the same on its trials, on the look at the model and on its winner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.model_headers import facts
from tests.unit.api.rule_cases import POD_TEMPLATE
from tests.unit.cluster.build.pool_pods import CPU, L40S, MI300X, TEMPLATE_FIELDS, built, quantized
from tests.unit.search.builders import LLAMA_8B
from tests.unit.tuning.pool_states import BASELINE, trial

from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import FetchedModel
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.pod import ENGINE_CONTAINER


def container(template: Manifest, name: str) -> Manifest:
    spec = template["spec"]
    return next(one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == name)


def resources(template: Manifest, name: str = ENGINE_CONTAINER) -> Manifest:
    found: Manifest = container(template, name)["resources"]
    return found


def test_a_pool_that_says_nothing_changes_nothing() -> None:
    assert built(L40S) == built(L40S, podTemplate={})
    assert not any(field in template["spec"] for template in built(L40S).values() for field in TEMPLATE_FIELDS)


@pytest.mark.parametrize("accelerator", [L40S, MI300X, CPU], ids=lambda a: a.vendor.value)
def test_trial_look_at_the_model_and_winner_have_what_the_pool_says(accelerator: Accelerator) -> None:
    for template in built(accelerator, podTemplate=POD_TEMPLATE).values():
        assert {field: template["spec"][field] for field in TEMPLATE_FIELDS} == {
            field: POD_TEMPLATE[field] for field in TEMPLATE_FIELDS
        }
        assert template["spec"]["securityContext"]["supplementalGroups"] == [44, 993]
        assert template["spec"]["automountServiceAccountToken"] is False
        assert POD_TEMPLATE["labels"].items() <= template["metadata"]["labels"].items()
        assert template["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] == '[{"name": "rdma"}]'


def test_nothing_loosens_the_pods() -> None:
    plain, given = built(L40S), built(L40S, podTemplate=POD_TEMPLATE)
    for name in plain:
        without = {k: v for k, v in given[name]["spec"]["securityContext"].items() if k != "supplementalGroups"}
        assert without == plain[name]["spec"]["securityContext"]
        for one in [*plain[name]["spec"].get("initContainers", []), *plain[name]["spec"]["containers"]]:
            assert container(given[name], one["name"])["securityContext"] == one["securityContext"]
        assert given[name]["spec"]["volumes"] == plain[name]["spec"]["volumes"]


def test_own_labels_and_annotations_stay() -> None:
    plain, given = built(L40S), built(L40S, podTemplate=POD_TEMPLATE)
    for name in plain:
        for kind in ("labels", "annotations"):
            assert plain[name]["metadata"][kind].items() <= given[name]["metadata"][kind].items()


def test_amd_nodes_have_debians_groups_unless_the_pool_names_its_own() -> None:
    assert built(MI300X)["trial"]["spec"]["securityContext"]["supplementalGroups"] == [44, 109]
    own = built(MI300X, podTemplate={"supplementalGroups": [44, 110]})
    assert own["winner"]["spec"]["securityContext"]["supplementalGroups"] == [44, 110]
    assert "supplementalGroups" not in built(L40S)["trial"]["spec"]["securityContext"]


@pytest.mark.parametrize("name", ["trial", "winner"])
def test_the_engine_has_the_pools_resources_beside_its_accelerators(name: str) -> None:
    assert resources(built(L40S, podTemplate=POD_TEMPLATE)[name]) == {
        "requests": {"cpu": "8", "memory": "64Gi", "ephemeral-storage": "20Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "96Gi", "ephemeral-storage": "50Gi", "nvidia.com/gpu": "2"},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"requests": {"cpu": "1500m", "memory": "18432Mi"}, "limits": {"memory": "18432Mi"}}),
        (
            {"requests": {"memory": "20Gi"}},
            {"requests": {"cpu": "1500m", "memory": "20Gi"}, "limits": {"memory": "20Gi"}},
        ),
        (
            {"limits": {"cpu": 2, "memory": "8Gi"}},
            {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
        ),
        (
            {"requests": {"cpu": 1}, "limits": {"cpu": "2"}},
            {"requests": {"cpu": "1", "memory": "18432Mi"}, "limits": {"cpu": "2", "memory": "18432Mi"}},
        ),
    ],
)
def test_what_is_not_said_of_the_engines_resources_is_as_usual(given: dict[str, Any], expected: Manifest) -> None:
    for name in ("trial", "winner"):
        assert resources(built(CPU, podTemplate={"resources": given})[name]) == expected


def test_a_slice_is_requested_by_the_name_that_its_nodes_announce() -> None:
    slice_ = replace(L40S, count=1, resource="nvidia.com/mig-3g.40gb")
    for name in ("trial", "winner"):
        assert resources(built(slice_)[name])["limits"] == {"nvidia.com/mig-3g.40gb": "1"}


def test_devices_come_by_a_claim_where_the_pool_names_its_template() -> None:
    pods = built(L40S, resourceClaimTemplate="two-l40s")
    for name in ("trial", "winner"):
        assert pods[name]["spec"]["resourceClaims"] == [
            {"name": "accelerators", "resourceClaimTemplateName": "two-l40s"}
        ]
        assert resources(pods[name])["claims"] == [{"name": "accelerators"}]
        assert "nvidia.com/gpu" not in resources(pods[name])["requests"]
    assert not any("claims" in resources(pods["trial"], step) for step in ("quantize", "measure"))


def test_the_look_at_the_model_takes_no_device() -> None:
    assert "resourceClaims" not in built(L40S, resourceClaimTemplate="two-l40s")["model"]["spec"]


def startup_s(template: Manifest) -> float:
    probe = container(template, ENGINE_CONTAINER)["startupProbe"]
    return float(probe["periodSeconds"] * probe["failureThreshold"])


def test_engines_have_time_to_load_what_they_serve() -> None:
    """70B in 16 bit is 141 GB, in 8 bit half of it."""
    big = facts(LLAMA_8B | {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672})
    sixteen_bit, eight_bit = (
        built(L40S, FetchedModel(digest="abc", path="/store/cache/hub/x", facts=big.model_dump_json()), measured)
        for measured in (trial(0, BASELINE, 100), quantized())
    )
    for name in ("trial", "winner"):
        assert startup_s(sixteen_bit[name]) == pytest.approx(900 + 141e9 / 200e6, rel=0.02)
        assert startup_s(eight_bit[name]) == pytest.approx(900 + 72e9 / 200e6, rel=0.02)
    assert startup_s(built(L40S)["trial"]) == 900
