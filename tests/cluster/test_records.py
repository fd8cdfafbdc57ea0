"""Nobody but the operator writes down what was decided or measured: the API server refuses it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest
from tests.cluster.helm import Helm
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until

_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@pytest.fixture(scope="module")
def ruled(cluster: Kubectl, definitions: None, helm: Helm) -> Iterator[Kubectl]:
    """A namespace under the chart's rules, with a tuning."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.run("create", "namespace", name)
    within = cluster.within(name)
    rules = [one for one in helm.rendered({"watchNamespaces": [name]}, namespace=name) if one["kind"] in _KINDS]
    within.apply(*rules)
    within.apply(tuning("chat", pools=("full",)))
    for account, verbs in (("tenant", "get,list,create,update,patch,delete"), ("haqa", "create,update,patch")):
        within.run("create", "serviceaccount", account)
        resources = "controllerrevisions.apps,quantizationtrials.haqa.dev,quantizationtrials.haqa.dev/status"
        within.run("create", "role", account, f"--verb={verbs}", f"--resource={resources}")
        within.run("create", "rolebinding", account, f"--role={account}", f"--serviceaccount={name}:{account}")
    try:
        wait_until(lambda: refusal(within, "tenant", record(within)), 60, "the rules are kept")
        yield within
    finally:
        for rule in rules:
            within.run("delete", rule["kind"], rule["metadata"]["name"], "--ignore-not-found")
        cluster.run("delete", "namespace", name, "--wait=false")


def record(api: Kubectl, owner: str = "haqa.dev/v1alpha1") -> Manifest:
    uid = api.get("quantizationtuning", "chat")["metadata"]["uid"]
    reference = {"apiVersion": owner, "kind": "QuantizationTuning", "name": "chat", "uid": uid}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "forged", "labels": {"haqa.dev/tuning": "chat"}, "ownerReferences": [reference]},
        "revision": 7,
        "data": {},
    }


def trial() -> Manifest:
    return {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTrial",
        "metadata": {"name": "forged"},
        "spec": {
            "tuning": "chat",
            "pool": "full",
            "number": 1,
            "configuration": {"scheme": "BF16"},
            "proposer": "user",
        },
    }


def refusal(api: Kubectl, account: str, manifest: Manifest) -> str | None:
    user = f"system:serviceaccount:{api.namespace}:{account}"
    try:
        api.run("create", "--dry-run=server", "--as", user, "-f", "-", stdin=json.dumps(manifest))
    except Refused as error:
        return str(error)
    return None


@pytest.mark.parametrize("what", ["record", "trial"])
def test_a_tenant_with_every_right_on_them_forges_none(ruled: Kubectl, what: str) -> None:
    manifest = record(ruled) if what == "record" else trial()
    said = refusal(ruled, "tenant", manifest)
    assert said is not None
    assert f'alone, and you are "system:serviceaccount:{ruled.namespace}:tenant"' in said
    assert refusal(ruled, "haqa", manifest) is None, "the operator writes them"


def test_the_records_of_other_controllers_are_not_for_it(ruled: Kubectl) -> None:
    assert refusal(ruled, "tenant", record(ruled, owner="apps/v1")) is None
