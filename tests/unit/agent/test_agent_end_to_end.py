"""The whole agent against the scripted server: prompts, HTTP, replies, repair, fallback, trial after trial."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes import llm_server
from tests.fakes.llm_server import LLMServer
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

from haqa_contract import Configuration, Scalar
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.strategy import AgentStrategy
from haqa_operator.api.search_spec import AgentSpec
from haqa_operator.api.trial import Proposal, Proposer, Trial
from haqa_operator.api.tuning import Budget
from haqa_operator.search.space import SearchSpace

SPACE = make_space(
    schemes=(("W4A16", "gptq"), ("W8A8-INT8", "smoothquant-gptq"), ("FP8-DYNAMIC", "rtn")),
    max_num_seqs=(None, 32, 64, 128, 256),
)
BEST = Configuration.of("W8A8-INT8", "smoothquant-gptq", max_num_seqs=128)


def machine(configuration: Configuration) -> dict[str, float]:
    """A made-up machine on which INT8 with 128 sequences is best, within all limits."""
    scheme = {"W4A16": 0.7, "W8A8-INT8": 1.6, "FP8-DYNAMIC": 0.4}[configuration.scheme.value]
    by_seqs: dict[Scalar | None, float] = {None: 1.0, 32: 0.9, 64: 1.0, 128: 1.2, 256: 1.1}
    seqs = by_seqs[configuration.settings.get("max-num-seqs")]
    ratio = scheme * seqs
    return measured(100 * ratio, 30 * scheme, 203 * ratio, perplexity=12.05, e2e=900 / max(ratio, 1.3))


def strategy(server: LLMServer, timeout_s: float = 10) -> AgentStrategy:
    spec = AgentSpec(model="hosted_vllm/rule", api_base=server.url, timeout=timedelta(seconds=timeout_s), retries=0)
    context = make_context(budget=Budget(max_trials=12))
    return AgentStrategy(LLMClient(spec, sleep=lambda seconds: None), lambda: context, FirstUntried())


def search(server: LLMServer, trials: int, timeout_s: float = 10) -> list[Trial]:
    agent = strategy(server, timeout_s)
    done = [baseline_trial(SPACE)]
    for number in range(1, trials + 1):
        proposal = proposal_of(agent.propose(SPACE, observe_all(done)))
        done.append(
            make_trial(number, proposal.configuration, machine(proposal.configuration)).model_copy(
                update={"proposal": proposal}
            )
        )
    return done


def test_a_sensible_model_finds_the_best_configuration() -> None:
    with LLMServer() as server:
        trials = search(server, 7)
    assert {trial.proposal.proposer for trial in trials[1:]} == {Proposer.AGENT}
    assert len({trial.configuration.scheme for trial in trials[1:4]}) == 3
    assert BEST in [trial.configuration for trial in trials]
    assert all(trial.proposal.reasoning for trial in trials[1:])


def test_a_search_goes_on_whatever_the_model_does() -> None:
    script = [llm_server.MISBEHAVIOURS[name]() for name in llm_server.MISBEHAVIOURS if name not in ("hang", "drip")]
    with LLMServer(script=script) as server:
        trials = search(server, len(SPACE.candidates))
    assert {trial.configuration for trial in trials[1:]} == set(SPACE.candidates)
    assert {trial.proposal.proposer for trial in trials[1:]} == {Proposer.AGENT, Proposer.BAYESIAN}
    fallbacks = [trial.proposal for trial in trials if trial.proposal.proposer is Proposer.BAYESIAN]
    assert all(proposal.note for proposal in fallbacks)


def test_injected_shell_text_becomes_nothing_but_a_record() -> None:
    with LLMServer(script=[llm_server.MISBEHAVIOURS["shell"]()] * 2) as server:
        proposal = proposal_of(strategy(server).propose(SPACE, observe_all([baseline_trial(SPACE)])))
    assert proposal.configuration in SPACE.candidates
    assert "curl" in proposal.exchanges[0].reply
    assert "curl" not in str(proposal.configuration) + proposal.reasoning + (proposal.note or "")


def test_a_large_space_is_answered_by_parameters() -> None:
    space: SearchSpace = make_large_space()
    with LLMServer() as server:
        proposal = proposal_of(strategy(server).propose(space, observe_all([baseline_trial(space)])))
    assert proposal.proposer is Proposer.AGENT
    assert proposal.configuration in space.candidates


def test_the_server_runs_as_a_program_and_misbehaves_on_request() -> None:
    with program("--misbehave", "malformed,prose") as url:
        spec = AgentSpec(model="hosted_vllm/rule", api_base=url, timeout=timedelta(seconds=10), retries=0)
        agent = AgentStrategy(LLMClient(spec), make_context, FirstUntried())
        proposal = agent.propose(SPACE, observe_all([baseline_trial(SPACE)]))
    assert isinstance(proposal, Proposal)
    assert proposal.proposer is Proposer.AGENT
    assert [bool(exchange.error) for exchange in proposal.exchanges] == [True, False]


def test_the_program_refuses_a_script_it_does_not_know() -> None:
    done = subprocess.run(command("--misbehave", "dance"), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--misbehave dance: choose from ok, malformed" in done.stderr


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(Path(llm_server.__file__)), *arguments]


@contextmanager
def program(*arguments: str) -> Iterator[str]:
    """The server as a child process; yields its URL."""
    process = subprocess.Popen(command("--port", "0", *arguments), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().rpartition(" ")[2].strip()
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("path", ["/health", "/v1/models"])
def test_the_server_says_that_it_is_there(path: str) -> None:
    with LLMServer() as server, urllib.request.urlopen(server.url.removesuffix("/v1") + path, timeout=5) as response:
        assert response.status == 200
