from __future__ import annotations

import json

import pytest
from tests.proposals import proposal_of
from tests.unit.agent.builders import (
    CONSTRAINTS,
    FirstUntried,
    ScriptedModel,
    baseline_trial,
    make_context,
    make_large_space,
    make_space,
    make_trial,
    measured,
    observe_all,
)

from haqa_contract import Configuration
from haqa_operator.agent.advice import MAX_RECORDED_REPLY_CHARS, Advice, may_stop
from haqa_operator.agent.candidates import Catalogue
from haqa_operator.agent.credentials import Credentials, EnvironmentCredentials, SecretCredentials
from haqa_operator.agent.history import trial_rows
from haqa_operator.agent.messages import LLMError
from haqa_operator.agent.outages import NO_REPLY, consecutive_outages
from haqa_operator.agent.strategy import AgentStrategy, agent_or_fallback
from haqa_operator.api.pools import SecretKeyRef
from haqa_operator.api.search_spec import AgentSpec, Search, SearchStrategy
from haqa_operator.api.trial import Exchange, Proposal, Proposer
from haqa_operator.api.tuning import Budget
from haqa_operator.decision.constraints import References
from haqa_operator.decision.observations import Observation
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy

SPACE = make_space()
BASELINE = observe_all([baseline_trial(SPACE)])
GOOD = '{"reasoning": "INT4 halves the weights", "candidate": 2, "expected_percent": 150}'


class Saved(list[tuple[str, str, Exchange]]):
    def __call__(self, prompt: str, reply: str, exchange: Exchange) -> None:
        self.append((prompt, reply, exchange))


def ask(
    *replies: str | LLMError,
    observations: list[Observation] = BASELINE,
    budget: Budget | None = None,
    truncated: bool = False,
) -> tuple[Proposal, ScriptedModel, Saved]:
    model = ScriptedModel(list(replies), truncated=truncated)
    saved = Saved()
    context = make_context(budget=budget or Budget(max_trials=20))
    proposal = proposal_of(AgentStrategy(model, lambda: context, FirstUntried(), saved).propose(SPACE, observations))
    return proposal, model, saved


def test_a_good_reply_is_proposed_with_its_reasoning_and_the_exchange() -> None:
    proposal, model, saved = ask(GOOD)
    assert proposal.configuration == SPACE.candidates[2]
    assert proposal.proposer is Proposer.AGENT
    assert proposal.reasoning == "INT4 halves the weights"
    assert proposal.note is None
    (exchange,) = proposal.exchanges
    assert (exchange.model, exchange.prompt_tokens, exchange.completion_tokens) == ("scripted/model", 900, 60)
    assert exchange.reply == GOOD
    assert exchange.error is None
    ((prompt, reply, kept),) = saved
    assert (reply, kept) == (GOOD, exchange)
    assert model.asked[0][1].content in prompt


def test_the_same_observations_ask_the_same() -> None:
    one, first, _ = ask(GOOD)
    other, second, _ = ask(GOOD)
    assert first.asked == second.asked
    assert one.exchanges[0].prompt_hash == other.exchanges[0].prompt_hash
    assert len(one.exchanges[0].prompt_hash) == 64


def test_a_bad_reply_is_repaired_in_one_round_that_says_what_was_wrong() -> None:
    proposal, model, saved = ask('{"candidate": 77}', GOOD)
    assert proposal.proposer is Proposer.AGENT
    assert [exchange.error is None for exchange in proposal.exchanges] == [False, True]
    assert "candidate 77 does not exist" in model.asked[1][-1].content
    assert model.asked[1][:2] == model.asked[0]
    assert len(saved) == 2


@pytest.mark.parametrize("bad", ["", "no json", '{"candidate": 77}', '{"parameters": {"scheme": "FP8-DYNAMIC"}}'])
def test_two_bad_replies_leave_the_trial_to_the_fallback(bad: str) -> None:
    proposal, model, _ = ask(bad, bad)
    assert proposal.configuration == SPACE.candidates[0]
    assert proposal.proposer is Proposer.BAYESIAN
    assert len(proposal.exchanges) == len(model.asked) == 2
    assert proposal.note is not None
    assert proposal.note.startswith("scripted/model gave no usable reply: ")
    assert proposal.note.endswith("; bayesian proposed this trial instead")


def test_a_candidate_that_was_tried_is_neither_offered_nor_accepted() -> None:
    done = observe_all([baseline_trial(SPACE), make_trial(1, SPACE.candidates[2], {"throughput": 1.0})])
    proposal, model, _ = ask(GOOD, '{"candidate": 3}', observations=done)
    assert proposal.configuration == SPACE.candidates[3]
    assert model.schemas[0] is not None
    assert model.schemas[0]["properties"]["choices"]["items"]["properties"]["candidate"]["enum"] == [0, 1, 3]
    assert "measured already" in (proposal.exchanges[0].error or "")


def test_an_unreachable_model_is_asked_once_and_the_fallback_proposes() -> None:
    proposal, model, saved = ask(LLMError("m at http://x: cannot be reached", latency_s=2.0))
    assert len(model.asked) == 1
    assert proposal.proposer is Proposer.BAYESIAN
    assert proposal.note == "no reply: m at http://x: cannot be reached; bayesian proposed this trial instead"
    assert proposal.exchanges[0].error == "no reply: m at http://x: cannot be reached"
    assert proposal.exchanges[0].latency_seconds == 2.0
    assert saved[0][1] == ""


def test_when_the_repair_gets_no_reply_both_exchanges_are_kept() -> None:
    proposal, _, _ = ask("no json", LLMError("gone"))
    assert [bool(e.reply) for e in proposal.exchanges] == [True, False]
    assert proposal.note == "no reply: gone; bayesian proposed this trial instead"


def test_nothing_left_to_try_asks_nobody() -> None:
    trials = [baseline_trial(SPACE)] + [make_trial(i + 1, c, {}) for i, c in enumerate(SPACE.candidates)]
    model = ScriptedModel([])
    strategy = AgentStrategy(model, make_context, FirstUntried())
    observations = observe_all(trials, CONSTRAINTS)
    assert strategy.propose(SPACE, observations) == ALL_TRIED
    assert strategy.advise(SPACE, observations) == Advice(why_none=ALL_TRIED.sentence)
    large = make_large_space()
    assert strategy.advise(large.closing(dict.fromkeys(large.candidates, "no")), []).choices == ()
    assert model.asked == []


def test_a_reply_cut_off_by_the_token_limit_is_told_to_be_shorter() -> None:
    _, model, _ = ask('{"reasoning": "very long', '{"reasoning": "very long', truncated=True)
    assert "cut off after 60 tokens" in model.asked[1][-1].content


@pytest.mark.parametrize(
    "reply",
    [
        "<think>" + "what if W4A16? " * 700 + "</think>\n" + GOOD,
        json.dumps({"reasoning": "because " * 1300, "candidate": 2, "expected_percent": 150}),
    ],
    ids=["thoughts-before", "reasoning-inside"],
)
def test_what_was_expected_is_kept_of_a_reply_that_thinks_aloud(reply: str) -> None:
    assert len(reply) > 10_000
    proposal, _, _ = ask(reply)
    assert "expected_percent" not in proposal.exchanges[0].reply
    kept = Proposal.model_validate_json(proposal.model_dump_json(by_alias=True))
    assert kept.expected_percent == 150
    trial = make_trial(
        1, kept.configuration, measured(120, 50, 330, perplexity=12.1, e2e=560), exchanges=kept.exchanges
    )
    trial = trial.model_copy(update={"proposal": kept})
    (row,) = trial_rows(observe_all([trial]), Catalogue.of(SPACE), (), (), References())
    assert row.expected == "1.5x"


def test_a_trial_of_an_earlier_version_has_no_expectation_and_is_read_all_the_same() -> None:
    old = {"configuration": {"scheme": "BF16"}, "proposer": "agent", "exchanges": [{"promptHash": "0", "model": "m"}]}
    assert Proposal.model_validate(old).expected_percent is None


def test_a_huge_reply_is_recorded_cut_and_saved_whole() -> None:
    huge = "blah " * 5000
    proposal, _, saved = ask(huge, huge)
    assert len(proposal.exchanges[0].reply) == MAX_RECORDED_REPLY_CHARS
    assert saved[0][1] == huge


def test_a_reply_full_of_control_characters_is_recorded_as_plain_text() -> None:
    proposal, _, _ = ask('\x1b[2J{"candidate": 2}\x00')
    assert proposal.exchanges[0].reply == '{"candidate": 2}'


# --- several choices, and stop ----------------------------------------------------------------------------------

SEVERAL = json.dumps(
    {
        "reasoning": "INT4 halves the weights",
        "choices": [
            {"candidate": 3, "expected_percent": 170, "chance": 60},
            {"candidate": 9, "expected_percent": 900, "chance": 99},
            {"candidate": 2, "expected_percent": 150, "chance": 90},
        ],
        "stop": False,
    }
)
STOP = '{"reasoning": "the bound of all that is left is below trial 1", "stop": true}'
ONE_SUCCEEDED = observe_all(
    [baseline_trial(SPACE), make_trial(1, SPACE.candidates[0], measured(160, 50, 330, perplexity=12.1, e2e=560))]
)


def agent(*replies: str | LLMError) -> tuple[AgentStrategy, ScriptedModel]:
    model = ScriptedModel(list(replies))
    return AgentStrategy(model, make_context, FirstUntried()), model


def test_all_choices_are_advice_and_the_first_is_proposed_with_what_it_promises() -> None:
    strategy, _ = agent(SEVERAL, SEVERAL)
    advice = strategy.advise(SPACE, BASELINE)
    assert [choice.configuration for choice in advice.choices] == [SPACE.candidates[3], SPACE.candidates[2]]
    assert (advice.stop, advice.why_none) == (None, None)
    assert advice.dropped == ("candidate 9 does not exist; they are numbered 0 to 3",)
    proposal = proposal_of(strategy.propose(SPACE, BASELINE))
    assert proposal.configuration == SPACE.candidates[3]
    assert (proposal.expected_percent, proposal.feasible_chance) == (170, 0.6)
    assert proposal.exchanges[0].error == "left out: candidate 9 does not exist; they are numbered 0 to 3"
    assert proposal.exchanges[0].reply.startswith('{"reasoning"')


def test_what_the_surrogate_expects_is_shown_to_the_agent() -> None:
    strategy, model = agent(SEVERAL)
    strategy.advise(SPACE, BASELINE, {SPACE.candidates[2]: "140 % (110 to 180), 70 % to meet all limits"})
    assert "candidate 2: scheme=W4A16" in model.asked[0][1].content
    assert '"140 % (110 to 180), 70 % to meet all limits"' in model.asked[0][1].content


def test_a_stop_ends_the_search_once_something_beside_the_baseline_has_succeeded() -> None:
    strategy, _ = agent(STOP)
    assert strategy.propose(SPACE, ONE_SUCCEEDED) == Stop(
        "scripted/model sees nothing left that can win: the bound of all that is left is below trial 1"
    )


def test_a_stop_that_comes_too_early_is_asked_to_name_a_candidate() -> None:
    strategy, model = agent(STOP, GOOD)
    proposal = proposal_of(strategy.propose(SPACE, BASELINE))
    assert proposal.configuration == SPACE.candidates[2]
    assert "nothing beside the baseline has succeeded yet" in model.asked[1][-1].content


def test_two_stops_that_come_too_early_leave_the_trial_to_the_fallback() -> None:
    proposal, _, _ = ask(STOP, STOP)
    assert proposal.proposer is Proposer.BAYESIAN
    assert "so that the search goes on" in (proposal.note or "")


def test_a_stop_that_comes_too_early_with_choices_gives_the_first_of_them() -> None:
    proposal, model, _ = ask('{"reasoning": "little to gain", "choices": [{"candidate": 2}], "stop": true}')
    assert len(model.asked) == 1
    assert proposal.configuration == SPACE.candidates[2]
    assert proposal.note == "the agent would stop, which is too early: little to gain"


def test_whoever_knows_better_decides_whether_a_stop_counts() -> None:
    model = ScriptedModel([STOP])
    strategy = AgentStrategy(model, make_context, FirstUntried(), stops=lambda observations: False)
    proposal = proposal_of(strategy.propose(SPACE, ONE_SUCCEEDED))
    assert proposal.proposer is Proposer.BAYESIAN
    assert proposal.note == ("scripted/model would stop, which is too early; bayesian proposed this trial instead")


def test_failures_and_the_baseline_are_nothing_that_a_search_may_stop_on() -> None:
    failed = make_trial(1, SPACE.candidates[0])
    assert not may_stop([])
    assert not may_stop(observe_all([baseline_trial(SPACE), failed]))
    assert may_stop(ONE_SUCCEEDED)


# --- token budget -------------------------------------------------------------------------------------------------


def spent(prompt_tokens: int, completion_tokens: int) -> list[Observation]:
    exchange = Exchange(
        prompt_hash="0" * 64, model="m", prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, reply="{}"
    )
    return observe_all(
        [baseline_trial(SPACE), make_trial(1, SPACE.candidates[0], {"throughput": 5.0}, exchanges=(exchange,))]
    )


def test_a_used_up_token_budget_asks_nobody_and_says_so() -> None:
    proposal, model, _ = ask(observations=spent(9000, 900), budget=Budget(max_agent_tokens=10_000))
    assert model.asked == []
    assert proposal.exchanges == ()
    assert proposal.note == (
        "budget.maxAgentTokens 10000 leaves too few for another reply; bayesian proposed this trial instead"
    )


def test_the_reply_gets_what_the_budget_leaves() -> None:
    _, model, _ = ask(GOOD, observations=spent(9000, 900), budget=Budget(max_agent_tokens=13_000))
    assert model.limits[0] is not None
    assert 256 <= model.limits[0] < 2048


def test_the_repair_round_counts_against_the_budget() -> None:
    proposal, model, _ = ask("no json", GOOD, budget=Budget(max_agent_tokens=3200))
    assert len(model.asked) == 1
    assert proposal.proposer is Proposer.BAYESIAN
    assert "budget.maxAgentTokens 3200" in (proposal.note or "")


# --- outages ------------------------------------------------------------------------------------------------------

OUT = Exchange(prompt_hash="0" * 64, model="m", error=f"{NO_REPLY}dead")
HEARD = Exchange(prompt_hash="0" * 64, model="m", reply="{}", error="bad")


def after(*trials: tuple[Exchange, ...]) -> list[Observation]:
    configurations = [Configuration.of("W4A16", "gptq", other=i) for i in range(len(trials))]
    made = [
        make_trial(i + 1, configuration, measured(1, 1, 1, perplexity=12, e2e=1), exchanges=exchanges)
        for i, (configuration, exchanges) in enumerate(zip(configurations, trials, strict=True))
    ]
    return observe_all([baseline_trial(SPACE), *made])


@pytest.mark.parametrize(
    ("trials", "count"),
    [
        ([], 0),
        ([(OUT,)], 1),
        ([(OUT,), (OUT,), (OUT,)], 3),
        ([(OUT,), (HEARD,), (OUT,)], 1),
        ([(OUT,), (OUT,), (OUT,), ()], 3),
        ([(OUT,), (OUT,), (HEARD, OUT)], 0),
    ],
)
def test_outages_in_a_row_are_counted_from_the_record(trials: list[tuple[Exchange, ...]], count: int) -> None:
    assert consecutive_outages(after(*trials)) == count


def test_after_three_outages_in_a_row_the_model_is_left_alone() -> None:
    for quiet in range(3):
        proposal, model, _ = ask(GOOD, observations=after((OUT,), (OUT,), (OUT,), *[()] * quiet))
        assert model.asked == []
        assert proposal.note == (
            "scripted/model gave no reply for 3 trials in a row and is not asked for this one; "
            "bayesian proposed this trial instead"
        )


def test_after_three_quiet_trials_the_model_gets_another_chance() -> None:
    proposal, model, _ = ask(GOOD, observations=after((OUT,), (OUT,), (OUT,), (), (), ()))
    assert len(model.asked) == 1
    assert proposal.proposer is Proposer.AGENT


def test_a_failed_second_chance_rests_again() -> None:
    _, model, _ = ask(GOOD, observations=after((OUT,), (OUT,), (OUT,), (), (), (), (OUT,)))
    assert model.asked == []


# --- who proposes -------------------------------------------------------------------------------------------------


def choose(search: Search, credentials: Credentials | None = None) -> tuple[Strategy, str | None]:
    return agent_or_fallback(search, make_context, FirstUntried(), credentials or EnvironmentCredentials({}), Saved())


def test_without_an_agent_one_line_says_who_proposes() -> None:
    strategy, note = choose(Search())
    assert isinstance(strategy, FirstUntried)
    assert note == "no agent configured (search.agent), so bayesian search proposes every trial"


def test_another_strategy_needs_no_note() -> None:
    strategy, note = choose(Search(strategy=SearchStrategy.RANDOM, agent=AgentSpec(model="openai/x")))
    assert isinstance(strategy, FirstUntried)
    assert note is None


def test_a_key_that_is_not_there_names_the_variable() -> None:
    agent = AgentSpec(model="openai/x", secret_ref=SecretKeyRef(name="llm", env="MY_KEY"))
    strategy, note = choose(Search(agent=agent))
    assert note is not None
    assert "MY_KEY is not set" in note
    proposal = proposal_of(strategy.propose(SPACE, []))
    assert proposal.proposer is Proposer.BAYESIAN
    assert proposal.note == note


@pytest.mark.parametrize(
    ("agent", "sentence"),
    [
        (
            AgentSpec(model="openai/x", secret_ref=SecretKeyRef(name="absent", key="k", env="PATH")),
            "spec.search.agent.secretRef: Secret absent has no key k; create it in the tuning's namespace",
        ),
        (
            AgentSpec(model="openai/x"),
            "search.agent.secretRef is missing; name the Secret that has your key for openai/x",
        ),
        (AgentSpec(model="hosted_vllm/x"), "search.agent.apiBase is missing; hosted_vllm/x has no address of its own"),
        (AgentSpec(model="bedrock/x", api_base="http://127.0.0.1:9"), "search.agent.model bedrock/x: in a cluster"),
        (AgentSpec(model="gpt-5"), "search.agent.model gpt-5: in a cluster the provider is one of openai, hosted_vllm"),
    ],
)
def test_in_a_cluster_every_trial_says_why_the_agent_cannot_be_asked(agent: AgentSpec, sentence: str) -> None:
    strategy, note = choose(Search(agent=agent), SecretCredentials(None))
    proposal = proposal_of(strategy.propose(SPACE, []))
    assert proposal.proposer is Proposer.BAYESIAN
    assert proposal.note == note
    assert note is not None
    assert note.startswith(sentence)
    assert note.endswith("; until then bayesian search proposes every trial")


def test_a_configured_agent_is_the_strategy() -> None:
    agent = AgentSpec(model="openai/x", secret_ref=SecretKeyRef(name="llm", env="MY_KEY"))
    strategy, note = choose(Search(agent=agent), EnvironmentCredentials({"MY_KEY": "sk-1"}))
    assert isinstance(strategy, AgentStrategy)
    assert note is None
    assert "sk-1" not in repr(strategy)


def test_exchanges_survive_a_round_trip_through_json() -> None:
    proposal, _, _ = ask("no json", GOOD)
    assert Proposal.model_validate(json.loads(proposal.model_dump_json(by_alias=True))) == proposal
