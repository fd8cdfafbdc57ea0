"""The chart's rules in a real API server: they say of a tuning what the operator says of it, under every policy."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.cluster.helm import Helm
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.waiting import wait_until
from tests.unit.cluster.policy.cases import POLICIES, mixed, single, tuning

from haqa_operator.cluster.policy import Policy
from haqa_operator.cluster.policy.problems import manifest_problems

_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
_MIXED = 40


@dataclass(frozen=True)
class Ruled:
    """A namespace under a policy."""

    api: Kubectl
    policy: Policy

    def refusal(self, manifest: Manifest) -> str | None:
        """What the API server says of a tuning; None where it takes it."""
        try:
            self.api.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
        except Refused as error:
            return str(error)
        return None


@pytest.fixture(scope="module", params=list(POLICIES.items()), ids=list(POLICIES))
def ruled(request: pytest.FixtureRequest, cluster: Kubectl, definitions: None, helm: Helm) -> Iterator[Ruled]:
    _, policy = request.param
    name = f"test-{secrets.token_hex(4)}"
    cluster.run("create", "namespace", name)
    within = cluster.within(name)
    values = {"watchNamespaces": [name], "policy": policy.values}
    rules = [one for one in helm.rendered(values, namespace=name) if one["kind"] in _KINDS]
    within.apply(*rules)
    found = Ruled(within, policy)
    try:
        # A new policy takes a moment to be known to the API server.
        forbidden = tuning(("nodePools.0.image", "evil/x"))
        wait_until(lambda: "policy.images" in (found.refusal(forbidden) or ""), 60, f"the rules of {name} to be kept")
        yield found
    finally:
        for rule in rules:
            within.run("delete", rule["kind"], rule["metadata"]["name"])
        cluster.run("delete", "namespace", name, "--wait=false")


def as_said(refusal: str | None, problems: list[str]) -> bool:
    """Whether the API server says the first sentence; of the keys of one map, any.

    Where there are several lines in it, it says the plain one.
    """
    if refusal is None or not problems:
        return refusal is None and not problems
    field, _, _ = problems[0].partition(": ")
    of_the_field = [problem for problem in problems if problem.startswith(f"{field}: ")]
    return any("is not what policy." in refusal if "\n" in one else one in refusal for one in of_the_field)


def test_the_api_server_and_the_operator_say_the_same_of_every_tuning(ruled: Ruled) -> None:
    different = []
    for manifest in [*single(), *mixed(_MIXED)]:
        problems = manifest_problems(manifest, ruled.policy)
        refusal = ruled.refusal(manifest)
        if not as_said(refusal, problems):
            different.append((manifest["spec"], problems, refusal))
    assert different == []


def test_the_rules_have_no_type_errors(ruled: Ruled) -> None:
    (policy,) = [
        one
        for one in ruled.api.list("validatingadmissionpolicy")
        if one["metadata"]["name"].endswith(f".{ruled.api.namespace}")
    ]
    warnings = policy.get("status", {}).get("typeChecking", {}).get("expressionWarnings", [])
    assert [one["warning"] for one in warnings if "undefined field" not in one["warning"]] == []


def test_a_tuning_of_an_earlier_policy_can_still_be_labelled_and_deleted(ruled: Ruled) -> None:
    if ruled.policy != Policy():
        return
    outside = {**tuning(("nodePools.0.image", "evil/x")), "metadata": {"name": "old"}}
    binding = ruled.api.list("validatingadmissionpolicybinding")
    (own,) = [one for one in binding if one["metadata"]["name"].endswith(f".{ruled.api.namespace}")]
    own = {name: own[name] for name in ("apiVersion", "kind", "spec")} | {"metadata": {"name": own["metadata"]["name"]}}
    ruled.api.run("delete", "validatingadmissionpolicybinding", own["metadata"]["name"])
    wait_until(lambda: ruled.refusal(outside) is None, 60, "the rules to be gone")
    ruled.api.apply(outside)
    ruled.api.apply(own)
    wait_until(lambda: ruled.refusal({**outside, "metadata": {"name": "new"}}), 60, "the rules to be back")
    ruled.api.run("label", "quantizationtuning", "old", "team=a")
    with pytest.raises(Refused, match=r"policy\.images of the chart"):
        ruled.api.run("patch", "quantizationtuning", "old", "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    ruled.api.run("delete", "quantizationtuning", "old")
