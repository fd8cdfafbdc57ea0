"""Who may approve a winner, as a real API server sees it: the right, one's own name, and a time to come."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cluster.helm import Helm, Values
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until

from haqa_operator.cluster.observe.approvals import approved

TRIAL = "demo-full-002"
APPROVER, AUTHOR = "alice@example.com", "bob@example.com"
_POLICY_LIMIT_S = 60.0
"""A policy is in force some time after it has been created."""


def approval(by: str = APPROVER, **spec: Any) -> Manifest:
    return {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationApproval",
        "metadata": {"name": f"demo-{secrets.token_hex(4)}"},
        "spec": {"tuning": "demo", "trial": TRIAL, "approvedBy": by, **spec},
    }


def at(seconds: float) -> str:
    """So many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def create(api: Kubectl, user: str, manifest: Manifest, *, verb: str = "create", dry_run: bool = False) -> None:
    mode = ("--dry-run=server",) if dry_run else ()
    api.run(verb, "--as", user, *mode, "-f", "-", stdin=json.dumps(manifest))


def may(api: Kubectl, user: str, resource: str, *verbs: str) -> Manifest:
    """A role and its binding, as one list."""
    name = f"{user.partition('@')[0]}-{resource}"
    group = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["haqa.dev"], "resources": [resource], "verbs": list(verbs)}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": [rule]},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
            },
        ],
    }


_ABOUT_APPROVALS = ("approvals.", "tunings.")


def policies(api: Kubectl, helm: Helm, values: Values | None = None) -> list[Manifest]:
    """Those about approvals, of a release that serves the test's namespace alone."""
    given = {"watchNamespaces": [api.namespace], **(values or {})}
    rendered = helm.rendered(given, namespace=api.namespace)
    admission = (manifest for manifest in rendered if manifest["kind"].startswith("ValidatingAdmissionPolicy"))
    return [manifest for manifest in admission if manifest["metadata"]["name"].startswith(_ABOUT_APPROVALS)]


@pytest.fixture
def api(definitions: None, kubectl: Kubectl, helm: Helm) -> Iterator[Kubectl]:
    """With the chart's policies in force, somebody who may approve and somebody who may write tunings."""
    made = policies(kubectl, helm, {"approvals": {"policy": {"required": True}}})
    rights = (
        may(kubectl, APPROVER, "quantizationapprovals", "create", "get", "patch", "delete"),
        may(kubectl, AUTHOR, "quantizationtunings", "create", "get", "patch", "update"),
    )
    kubectl.apply(*made, *(one for right in rights for one in right["items"]))

    def in_force() -> bool:
        stranger = approval(by="nobody@example.com")
        return refused(kubectl, APPROVER, stranger) and refused(kubectl, AUTHOR, tuning(), verb="create")

    wait_until(in_force, _POLICY_LIMIT_S, "the policies are in force")
    yield kubectl
    kubectl.run("delete", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))


def refused(api: Kubectl, user: str, manifest: Manifest, verb: str = "create") -> bool:
    try:
        create(api, user, manifest, verb=verb, dry_run=True)
    except Refused:
        return True
    return False


def test_whoever_has_the_right_approves_in_their_own_name(api: Kubectl) -> None:
    create(api, APPROVER, approval(expires=at(3600)))
    (stored,) = api.list("quantizationapproval")
    found = approved([stored], "demo", TRIAL, datetime.now(UTC).timestamp())
    assert found is not None
    assert found.by == APPROVER
    assert found.at == datetime.fromisoformat(stored["metadata"]["creationTimestamp"]).timestamp()
    assert APPROVER in api.run("get", "qa")


def test_approving_takes_no_right_on_tunings_and_writing_tunings_gives_none(api: Kubectl) -> None:
    with pytest.raises(Refused, match=r'cannot patch resource "quantizationtunings"|cannot get resource'):
        create(api, APPROVER, tuning(), verb="apply")
    with pytest.raises(Refused, match='cannot create resource "quantizationapprovals"'):
        create(api, AUTHOR, approval(by=AUTHOR))


@pytest.mark.parametrize("user", [APPROVER, ""], ids=["who may approve", "who may do everything"])
def test_nobody_approves_in_somebody_elses_name(api: Kubectl, user: str) -> None:
    who = ("--as", user) if user else ()
    given = json.dumps(approval(by="carol@example.com"))
    with pytest.raises(Refused, match=r'approvedBy is "carol@example.com" and you are ".+"; approve in your own name'):
        api.run("create", *who, "-f", "-", stdin=given)


def test_applying_is_creating_too(api: Kubectl) -> None:
    given = json.dumps(approval(by="carol@example.com"))
    with pytest.raises(Refused, match="approve in your own name"):
        api.run("apply", "--server-side", "--as", APPROVER, "-f", "-", stdin=given)


def test_a_time_that_has_passed_is_refused(api: Kubectl) -> None:
    with pytest.raises(Refused, match="has passed; give a time to come, or leave it out"):
        create(api, APPROVER, approval(expires=at(-60)))


@pytest.mark.parametrize("expires", ["tomorrow", "2030-01-01", "2030-01-01T00:00:00+02:00"])
def test_a_time_is_in_utc(api: Kubectl, expires: str) -> None:
    with pytest.raises(Refused, match=r"spec\.expires"):
        create(api, APPROVER, approval(expires=expires))


def test_what_was_approved_cannot_change(api: Kubectl) -> None:
    given = approval()
    create(api, APPROVER, given)
    given["spec"]["trial"] = "demo-full-001"
    with pytest.raises(Refused, match="somebody's word and cannot change"):
        create(api, APPROVER, given, verb="apply")


def test_nobody_makes_an_approval_unnecessary_who_could_not_give_it(api: Kubectl) -> None:
    manual, automatic = tuning(output={"approval": "Manual"}), tuning(output={"approval": "Automatic"})
    create(api, AUTHOR, manual, verb="apply")
    for unguarded in (automatic, tuning()):
        with pytest.raises(Refused, match="you may not create quantizationapprovals"):
            create(api, AUTHOR, unguarded, verb="apply")
    create(api, AUTHOR, tuning(output={"approval": "Manual"}, suspend=True), verb="apply")
    create(api, AUTHOR, tuning(output={"mode": "Manifest", "approval": "Manual"}), verb="apply")
    api.apply(automatic)


def test_a_winner_that_is_only_shown_needs_nobody(api: Kubectl) -> None:
    create(api, AUTHOR, tuning("paper", output={"mode": "Manifest"}))
    with pytest.raises(Refused, match=r"set output\.approval to Manual, or output\.mode to Manifest"):
        create(api, AUTHOR, tuning("served"))


def test_the_policies_mean_what_the_api_server_can_check(api: Kubectl, helm: Helm) -> None:
    """Its own type check finds no field that is not there."""
    for policy in policies(api, helm):
        if policy["kind"] == "ValidatingAdmissionPolicy":
            name = policy["metadata"]["name"]

            def checked(found: Manifest) -> bool:
                seen: bool = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
                return seen

            found = api.wait_for("validatingadmissionpolicy", name, checked, "type-checked", _POLICY_LIMIT_S)
            assert found["status"].get("typeChecking", {}).get("expressionWarnings", []) == []


def test_without_the_switch_there_are_none(kubectl: Kubectl, helm: Helm) -> None:
    assert policies(kubectl, helm, {"approvals": {"policy": {"enabled": False}}}) == []
