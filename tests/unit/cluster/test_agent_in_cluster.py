"""An LLM that picks for a tuning in a cluster gets the key of the tuning's Secret, and nothing of the operator's."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.fakes.llm_server import LLMServer
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import Operated

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges import proposals
from haqa_operator.cluster.edges.api_server import SECRET, TRIAL

KEY = "tenants-own-key"
OPERATORS = "operator-secret"


@pytest.fixture
def operated(monkeypatch: pytest.MonkeyPatch) -> Operated:
    for name in ("HAQA_PROMETHEUS_PASSWORD", "OPENAI_API_KEY", "OPENAI_ORG_ID", "HF_TOKEN"):
        monkeypatch.setenv(name, f"{OPERATORS}-{name}")
    monkeypatch.setattr(proposals, "_MOMENT_S", 120.0)  # an answer is waited for, so that no time passes meanwhile
    return Operated()


def ask(operated: Operated, server: LLMServer, model: str = "openai/x", **agent: Any) -> list[Manifest]:
    """The trials that were proposed, once a tuning of two trials with this agent has ended."""
    asked = {"model": model, "apiBase": server.url, "secretRef": {"name": "llm", "key": "token"}, **agent}
    asked = {name: value for name, value in asked.items() if value is not None}
    search = {
        "strategy": "agent",
        "agent": asked,
        "schemes": ["BF16", "W8A8-INT8", "W4A16"],
        "algorithms": ["rtn"],
        "engineDefaults": False,
    }
    operated.submit(
        nodePools=[{"name": "full", "nodeSelector": {"pool": "full"}}],
        search=search,
        budget={"maxTrials": 2, "trialTimeout": "5m"},
    )
    assert operated.run()["phase"] == "Succeeded"
    assert not operated.errors
    return [one for one in operated.cluster.api.list(TRIAL, NAMESPACE) if one["spec"]["proposer"] != "baseline"]


def secret(**data: str) -> Manifest:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": "llm", "namespace": NAMESPACE},
        "data": encoded,
    }


def test_the_agent_gets_the_key_of_the_secret_and_nothing_of_the_operators(operated: Operated) -> None:
    operated.cluster.api.stand_in(secret(token=f"{KEY}\n", other="another-key"))
    with LLMServer() as server:
        trials = ask(operated, server)
        assert {trial["spec"]["proposer"] for trial in trials} == {"agent"}
        assert server.requests
        for request in server.requests:
            assert request.headers["authorization"] == f"Bearer {KEY}"
            assert OPERATORS not in str(request)
            assert "another-key" not in str(request)


@pytest.mark.parametrize("there", [False, True], ids=["no-secret", "another-key-in-it"])
def test_a_missing_key_is_a_note_and_is_looked_for_nowhere_else(operated: Operated, there: bool) -> None:
    if there:
        operated.cluster.api.stand_in(secret(other="x"))
    with LLMServer() as server:
        trials = ask(operated, server, secretRef={"name": "llm", "key": "token", "env": "HAQA_PROMETHEUS_PASSWORD"})
        assert server.requests == []
    assert {trial["spec"]["proposer"] for trial in trials} == {"bayesian"}
    for trial in trials:
        assert trial["spec"]["note"].startswith("spec.search.agent.secretRef: Secret llm has no key token; create it")


def test_without_a_secret_no_key_is_sent(operated: Operated) -> None:
    with LLMServer() as server:
        ask(operated, server, secretRef=None)
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer no-key"}
        assert OPERATORS not in str(server.requests)


def test_a_provider_that_looks_for_credentials_itself_is_a_note(operated: Operated) -> None:
    operated.cluster.api.stand_in(secret(token=KEY))
    with LLMServer() as server:
        trials = ask(operated, server, model="bedrock/anthropic.claude-3")
        assert server.requests == []
    assert all("in a cluster the provider is one of openai" in trial["spec"]["note"] for trial in trials)
