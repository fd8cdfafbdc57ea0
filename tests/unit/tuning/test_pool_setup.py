"""One length of requests for a pool: in its space, its trials, its Deployment and in the agent's prompt."""

from typing import Any

import pytest
from tests.builders import make_baseline, make_tuning
from tests.unit.search.builders import model, nvidia

from haqa_operator.agent.context import AgentContext
from haqa_operator.agent.credentials import EnvironmentCredentials
from haqa_operator.api import Trial
from haqa_operator.search.build import MAX_CANDIDATES, SpaceError
from haqa_operator.search.space import MOST_REMEMBERED
from haqa_operator.tuning.pool_setup import SPACES, PoolSetup

L4 = nvidia("NVIDIA-L4")


def setup(*trials: Trial, **fields: Any) -> PoolSetup:
    spec = make_tuning().on_pool("l4").having(**fields).obj().spec
    return PoolSetup(spec, spec.node_pools[0], L4, model(), "0.32.0", trials)


def measured_with(length: str) -> Trial:
    trial = make_baseline().throughput(100).obj()
    status = trial.status.model_copy(update={"engine_args": ("--model=/m", f"--max-model-len={length}")})
    return trial.model_copy(update={"status": status})


def test_the_default_is_as_long_as_model_and_memory_allow() -> None:
    fresh = setup()
    assert fresh.max_model_len == "auto"
    assert fresh.note is None
    assert fresh.space().baseline_problem is None


def test_a_length_that_the_memory_does_not_hold_is_known_before_anything_runs() -> None:
    asked = setup(serving={"maxModelLen": 65536})
    assert asked.max_model_len == 65536
    assert (asked.space().baseline_problem or "").startswith("one sequence of 65536 tokens need 8.0 GiB of KV cache")
    quantized = {candidate.scheme for candidate in asked.space().candidates}
    assert quantized, "what has smaller weights leaves room for it"


def test_a_run_that_was_begun_with_another_length_goes_on_with_it_and_says_so() -> None:
    begun = setup(measured_with("256"))
    assert begun.max_model_len == 256
    assert "measured with max-model-len 256 by an earlier version" in (begun.note or "")


def test_a_run_that_was_begun_with_the_default_has_nothing_to_say() -> None:
    assert setup(measured_with("auto")).note is None


def told(monkeypatch: pytest.MonkeyPatch, asked: PoolSetup) -> AgentContext:
    """What the agent is told."""
    seen: list[AgentContext] = []
    monkeypatch.setattr(
        "haqa_operator.tuning.pool_setup.agent_or_fallback",
        lambda search, context, *others: seen.append(context()),
    )
    asked.strategy(EnvironmentCredentials({}), lambda *_: None)
    return seen[0]


def test_the_agent_knows_the_length_unless_it_may_choose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = told(monkeypatch, setup(serving={"maxModelLen": 8192})).hidden_settings
    assert line.startswith("max-model-len=8192: requests of up to 8192 tokens")
    assert told(monkeypatch, setup(search={"engine": {"max-model-len": [4096, 8192]}})).hidden_settings == ()


def test_the_agent_is_told_bytes_by_format_rates_and_the_users_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = {"model": "openai/x", "notes": ["prompts share a long beginning"]}
    search = {
        "agent": agent,
        "schemes": ["FP8-DYNAMIC", "W4A16"],
        "groupSizes": [32, 128],
        "engine": {"kv-cache-dtype": ["auto", "fp8"]},
        "engineDefaults": False,
    }
    context = told(monkeypatch, setup(search=search))
    weights = context.model.weight_bytes
    assert weights["BF16"] > weights["FP8-DYNAMIC"] > weights["W4A16 group-size=32"] > weights["W4A16 group-size=128"]
    assert context.model.active_bytes == {}
    assert context.model.kv_bytes_per_token == {"auto": 131072, "fp8": 65536}
    assert context.rates == {"BF16": 121, "INT8": 242, "FP8": 242, "FP4": None}
    assert context.notes == ("prompts share a long beginning",)


def test_an_engine_that_turns_out_to_be_another_release_is_said() -> None:
    trial = make_baseline().throughput(100).obj()
    told = trial.model_copy(update={"status": trial.status.model_copy(update={"engine_version": "0.29.0+cu129"})})
    assert setup(told).note == (
        'nodePools "l4": its engine is vLLM 0.29.0 and was taken for 0.32.0; set engineVersion 0.29.0 to search what '
        "that one has"
    )
    same = trial.model_copy(update={"status": trial.status.model_copy(update={"engine_version": "0.32.0+cpu"})})
    assert setup(same).note is None
    odd = trial.model_copy(update={"status": trial.status.model_copy(update={"engine_version": "ours"})})
    assert setup(odd).note is None


def test_spaces_are_remembered_by_how_many_candidates_they_have() -> None:
    """Sixty-four of the largest would be gigabytes, and whoever may write a tuning may write sixty-four."""
    remembered = SPACES._whole
    asked = setup(search={"engine": {"max-num-seqs": list(range(65, 97))}, "engineDefaults": False})
    before = remembered.currsize
    space = asked.space()
    assert len(space.candidates) > 32
    assert remembered.currsize == before + 1 + len(space.candidates)
    assert asked.space() is space
    assert remembered.maxsize == MOST_REMEMBERED >= 2 * MAX_CANDIDATES


def test_the_pools_of_a_tuning_share_its_candidates() -> None:
    engine = {"max-num-seqs": list(range(1, 201)), "max-num-batched-tokens": list(range(2048, 2148))}
    search = {"engine": engine, "engineDefaults": False, "schemes": ["BF16"]}
    assert len(setup(search=search).space().candidates) > 10_000
    pools = [{"name": f"p{number}"} for number in range(32)]
    with pytest.raises(
        SpaceError, match=r"more than 1,562 candidates, this pool's share of the tuning's 50,000; leave"
    ):
        setup(search=search, nodePools=pools).space()
