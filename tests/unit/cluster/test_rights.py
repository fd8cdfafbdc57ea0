"""The chart grants what the operator does: a missing right shows only in a cluster, as a tuning that gets nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.fakes.faulty_api import Call
from tests.fakes.kinds import DEPLOYMENT, SERVICE
from tests.fakes.simulated_cluster import reporting
from tests.unit.cluster.tunings import Operated

from haqa_contract import FailureReason
from haqa_operator.cluster.edges.api_server import (
    CONTROLLER_REVISION,
    EVENT,
    INFERENCE_SERVICE,
    JOB,
    POD,
    SECRET,
    TRIAL,
    TUNING,
)
from haqa_operator.handlers.main import APPROVALS, CHILDREN, TUNINGS

RBAC = Path(__file__).parents[3] / "charts" / "haqa" / "templates" / "rbac.yaml"
VERBS = {
    "get": ("get",),
    "list": ("list",),
    "create": ("create",),
    "apply": ("create", "patch"),
    "apply_status": ("patch",),
    "delete": ("delete",),
    "log": ("get",),
    "latest_warning": ("list",),
}

Right = tuple[str, str, str]
"""API group, resource and verb."""


def granted() -> set[Right]:
    text = re.sub(r"\{\{.*?\}\}", "", RBAC.read_text())
    documents = [found for found in yaml.safe_load_all(text) if found]
    rules = [rule for found in documents for rule in found.get("rules", ())]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(call: Call) -> Iterator[Right]:
    group = call.kind.api_version.rpartition("/")[0]
    below = {"apply_status": "/status", "log": "/log"}.get(call.verb, "")
    for verb in VERBS[call.verb]:
        yield group, f"{call.kind.kind.lower()}s{below}", verb


@pytest.fixture(scope="module")
def done() -> set[Right]:
    """What a tuning with an agent and a failed trial takes, and what trouble takes."""
    operated = Operated()
    operated.cluster.endings["full", "W8A8-INT8"] = [reporting(FailureReason.METRICS_MISSING)]
    agent = {"model": "openai/x", "secretRef": {"name": "llm"}}
    schemes = ["BF16", "W8A8-INT8", "W4A16"]
    operated.submit(
        search={"strategy": "grid", "agent": agent, "schemes": schemes, "algorithms": ["rtn"], "engineDefaults": False}
    )
    operated.run()
    calls = {(call.verb, call.kind) for call in operated.api.calls}
    assert {("delete", JOB), ("create", TRIAL), ("apply_status", TUNING), ("get", SECRET), ("get", SERVICE)} <= calls
    logs = (Call("log", POD), Call("latest_warning", EVENT))
    names_taken = tuple(Call("get", kind) for kind in (TRIAL, JOB, CONTROLLER_REVISION))
    rolled_back = (Call("delete", DEPLOYMENT), Call("delete", CONTROLLER_REVISION))
    kserve = tuple(Call(verb, INFERENCE_SERVICE) for verb in ("get", "apply", "delete"))
    calls_of_all = (*operated.api.calls, *logs, *names_taken, *rolled_back, *kserve)
    return {right for call in calls_of_all for right in needed(call)}


def test_the_operator_may_do_whatever_it_does(done: set[Right]) -> None:
    assert not done - granted()


def test_the_operator_may_do_nothing_else(done: set[Right]) -> None:
    watched = {
        (group, resource, verb) for group, _, resource in (TUNINGS, APPROVALS, *CHILDREN) for verb in ("list", "watch")
    }
    by_kopf = {
        (group, resource, verb)
        for group, resource in (("apiextensions.k8s.io", "customresourcedefinitions"), ("", "namespaces"))
        for verb in ("list", "watch")
    }
    nodes = {("", "nodes", "watch")}
    assert sorted(granted() - done - watched - by_kopf - nodes) == []


def test_the_operator_may_watch_what_it_watches() -> None:
    resources = (TUNINGS, APPROVALS, *CHILDREN)
    watched = {(group, resource, verb) for group, _, resource in resources for verb in ("list", "watch")}
    assert not watched - granted()
