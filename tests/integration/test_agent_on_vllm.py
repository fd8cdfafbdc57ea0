"""The agent against a real server, protocol and guided decoding: vLLM, with the scripted server held to the same.

The model has random weights: what it writes is noise, and only the schema makes it an answer. That is the point.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.fakes.llm_server import MODEL, LLMServer
from tests.proposals import proposal_of
from tests.unit.agent.builders import (
    FirstUntried,
    baseline_trial,
    make_context,
    make_large_space,
    make_space,
    make_trial,
    measured,
    observe_all,
)

from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.agent.reply_schemas import reply_schema
from haqa_operator.agent.strategy import AgentStrategy
from haqa_operator.api.search_spec import AgentSpec
from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.api.tuning import Budget
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_runner.serve.launching import Spawn

START_TIMEOUT_S = 240
MAX_MODEL_LEN = 8192
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}:\n{{ message.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
NO_BLANKS = {"backend": "xgrammar", "disable_any_whitespace": True}
"""JSON allows blanks without end between its tokens, and a model of noise writes nothing else once it has begun."""


@dataclass(frozen=True)
class Endpoint:
    """A server under test and the model it serves."""

    url: str
    model: str


@pytest.fixture(scope="module")
def vllm(engines: Spawn, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("agent-on-vllm")
    (folder / "chat.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    with vllm_server(engines, folder, models["long"]) as url:
        yield Endpoint(url, "tiny")


@contextmanager
def vllm_server(engines: Spawn, folder: Path, model: Path) -> Iterator[str]:
    port = free_port()
    argv = ["vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "tiny"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", str(MAX_MODEL_LEN)]
    argv += ["--max-num-seqs", "2", "--chat-template", str(folder / "chat.jinja")]
    argv += ["--structured-outputs-config", json.dumps(NO_BLANKS)]
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / "vllm.log"
    child = engines(argv, env, folder, log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not healthy(f"http://127.0.0.1:{port}/health"):
            assert child.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        time.sleep(0.2)  # between polls of a condition that has a limit
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def scripted() -> Iterator[Endpoint]:
    with LLMServer(only_model=True) as server:
        yield Endpoint(server.url, MODEL)


@pytest.fixture(params=["scripted", "vllm"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue(request.param)
    return found


def client(endpoint: Endpoint, **changes: Any) -> LLMClient:
    values: dict[str, Any] = {
        "model": f"hosted_vllm/{endpoint.model}",
        "api_base": endpoint.url,
        "timeout": timedelta(seconds=120),
        "retries": 0,
        "max_tokens": 2048,
        "temperature": 0.0,
    }
    return LLMClient(AgentSpec(**{**values, **changes}), seed=0)


def propose(
    endpoint: Endpoint, space: SearchSpace, observations: Sequence[Observation], **changes: Any
) -> tuple[Proposal, list[str]]:
    """The proposal, and the replies that led to it in full."""
    replies: list[str] = []
    context = make_context(budget=Budget(max_trials=12))
    strategy = AgentStrategy(
        client(endpoint, **changes),
        lambda: context,
        FirstUntried(),
        lambda prompt, reply, _: replies.append(reply),
        stops=lambda observations: False,
    )
    proposal = proposal_of(strategy.propose(space, observations))
    return proposal, replies


def past(space: SearchSpace) -> list[Observation]:
    first = make_trial(1, space.candidates[0], measured(160, 50, 330, perplexity=12.1, e2e=560))
    return observe_all([baseline_trial(space), first])


def lenient(reply: str) -> Any:
    """JSON as the agent reads it: the grammar of a schema lets control characters into strings, which JSON forbids."""
    return json.loads(reply, strict=False)


@pytest.mark.parametrize("space", [make_space(), make_large_space()], ids=["listed", "factored"])
def test_a_proposal_is_an_untried_candidate_with_its_whole_record(space: SearchSpace, endpoint: Endpoint) -> None:
    observations = past(space)
    tried = {observation.trial.configuration for observation in observations}
    proposal, replies = propose(endpoint, space, observations)
    assert proposal.configuration in space.candidates
    assert proposal.configuration not in tried
    for exchange, reply in zip(proposal.exchanges, replies, strict=True):
        assert len(exchange.prompt_hash) == 64
        assert exchange.model.endswith(endpoint.model)
        assert exchange.prompt_tokens > 500
        assert 0 < exchange.completion_tokens <= 2048
        assert exchange.latency_seconds > 0
        Draft202012Validator(reply_schema(space, tried)).validate(lenient(reply))
    by_agent = proposal.proposer is Proposer.AGENT
    # Noise may say stop, and name one candidate twice.
    assert (proposal.note or "the agent would stop").startswith("the agent would stop") == by_agent
    assert (proposal.exchanges[-1].error or "left out: ").startswith("left out: ") == by_agent


def test_the_schema_makes_even_noise_a_choice_at_the_first_attempt_where_candidates_are_numbered(
    endpoint: Endpoint,
) -> None:
    proposal, replies = propose(endpoint, make_space(), past(make_space()))
    assert proposal.proposer is Proposer.AGENT
    assert len(replies) == 1


def test_a_search_can_be_carried_to_its_end(endpoint: Endpoint) -> None:
    space = make_space()
    trials = [observation.trial for observation in past(space)]
    for number in range(2, len(space.candidates) + 1):
        proposal, _ = propose(endpoint, space, observe_all(trials))
        trials.append(make_trial(number, proposal.configuration, measured(90, 20, 99, perplexity=12, e2e=600)))
    assert {trial.configuration for trial in trials[1:]} == set(space.candidates)


def test_the_same_observations_give_the_same_prompt_and_the_same_proposal(endpoint: Endpoint) -> None:
    space = make_space()
    one, _ = propose(endpoint, space, past(space))
    other, _ = propose(endpoint, space, past(space))
    assert one.exchanges[0].prompt_hash == other.exchanges[0].prompt_hash
    assert one.configuration == other.configuration


def test_a_model_that_is_not_served_is_named(endpoint: Endpoint) -> None:
    with pytest.raises(LLMError, match=r"no-such-model at http.*does not know it"):
        client(endpoint, model="hosted_vllm/no-such-model").complete([Message("user", "hello")])


def test_a_reply_cut_off_by_the_token_limit_ends_in_the_fallback_which_says_so(vllm: Endpoint) -> None:
    space = make_space()
    proposal, replies = propose(vllm, space, past(space), max_tokens=64)
    assert proposal.proposer is Proposer.BAYESIAN
    assert len(replies) == 2
    assert proposal.note is not None
    assert "the reply was cut off after 64 tokens" in proposal.note


def test_a_prompt_beyond_the_context_says_so(vllm: Endpoint) -> None:
    with pytest.raises(LLMError, match="prompt is longer than the model can read"):
        client(vllm).complete([Message("user", "word " * 20_000)], {"type": "object"})


def test_openais_own_client_is_served_alike(vllm: Endpoint) -> None:
    schema = reply_schema(make_space(), set())
    completion = client(vllm, model=f"openai/{vllm.model}").complete([Message("user", "Choose.")], schema)
    Draft202012Validator(schema).validate(lenient(completion.text))
