"""The next step follows from what is known, wherever a process was stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.contract.endings import ENDINGS, Ending
from tests.unit.tuning.pool_states import BASELINE, INT4, INT8, exact, failed, spec, state, trial

from haqa_contract import Algorithm, Configuration, Failure, FailureReason, Scheme
from haqa_contract.engine_log.diagnosis import diagnose
from haqa_operator.api import Proposer, Trial, TrialPhase
from haqa_operator.decision.results import Confirmation, Verdict
from haqa_operator.search.space import SearchSpace
from haqa_operator.tuning.plan import AskStrategy, Conclude, Confirm, Measure, plan


def test_the_baseline_comes_first() -> None:
    action = plan(state())
    assert isinstance(action, Measure)
    assert action.trial.is_baseline
    assert action.trial.name == "t-a-000"


def test_a_proposed_trial_is_measured_before_anything_else_is_asked() -> None:
    waiting = trial(1, INT8)
    assert plan(state(trial(0, BASELINE, 10), waiting)) == Measure(waiting)


def test_the_strategy_is_asked_while_there_is_budget_and_space() -> None:
    assert plan(state(trial(0, BASELINE, 10))) == AskStrategy(number=1)


def test_a_winner_is_confirmed_before_it_is_believed() -> None:
    trials = (trial(0, BASELINE, 10), trial(1, INT8, 20), trial(2, INT4, 5))
    action = plan(state(*trials))
    assert action == Confirm(winner=trials[1], baseline=trials[0])


def test_a_confirmed_winner_ends_the_pool() -> None:
    trials = (trial(0, BASELINE, 10), trial(1, INT8, 20), trial(2, INT4, 5))
    seen = Confirmation(winner="t-a-001", baseline="t-a-000", metric="throughput", ratio=exact(1.9))
    action = plan(state(*trials, confirmations=(seen,)))
    assert isinstance(action, Conclude)
    assert action.decision.verdict is Verdict.WINNER
    assert action.decision.speedup == exact(1.9)


def test_a_winner_that_does_not_hold_up_loses_to_the_baseline() -> None:
    trials = (trial(0, BASELINE, 10), trial(1, INT8, 20), trial(2, INT4, 5))
    seen = Confirmation(winner="t-a-001", baseline="t-a-000", metric="throughput", ratio=exact(0.9))
    action = plan(state(*trials, confirmations=(seen,)))
    assert isinstance(action, Conclude)
    assert action.decision.verdict is Verdict.BASELINE_BEST


def test_without_confirmation_rounds_the_trials_decide() -> None:
    trials = (trial(0, BASELINE, 10), trial(1, INT8, 20), trial(2, INT4, 5))
    action = plan(state(*trials, spec=spec(confirmation={"rounds": 0})))
    assert isinstance(action, Conclude)
    assert action.decision.winner == "t-a-001"


@pytest.mark.parametrize(
    "reason",
    [
        FailureReason.MODEL_FETCH,
        FailureReason.ENGINE_LOAD_FAILED,
        FailureReason.IMAGE_PULL,
        FailureReason.UNSCHEDULABLE,
    ],
)
def test_a_model_that_cannot_be_served_at_all_ends_the_pool_at_once(reason: FailureReason) -> None:
    action = plan(state(trial(0, BASELINE, **failed(reason))))
    assert isinstance(action, Conclude)
    assert "the baseline cannot be served" in action.why


def scored(number: int, **status: Any) -> Trial:
    """A baseline that is not served."""
    done = trial(number, BASELINE, **(status or {"phase": TrialPhase.SUCCEEDED, "metrics": {"perplexity": exact(70)}}))
    kept = done.proposal.model_copy(update={"proposer": Proposer.REFERENCE, "note": "it takes 131 GiB"})
    return done.model_copy(update={"proposal": kept})


def test_a_baseline_that_is_known_not_to_fit_is_scored_and_never_served() -> None:
    known = state()
    known = replace(known, space=replace(known.space, baseline_problem="it takes 131 GiB of 72"))
    action = plan(known)
    assert isinstance(action, Measure)
    assert (action.trial.is_reference, action.trial.is_baseline, action.trial.number) == (True, True, 0)
    assert action.trial.proposal.note == "it takes 131 GiB of 72"
    assert plan(replace(known, trials=(scored(0),))) == AskStrategy(number=1)


def test_where_nothing_at_all_can_be_served_nothing_is_scored_either() -> None:
    action = plan(state(space=SearchSpace(BASELINE, (), baseline_problem="it takes 131 GiB of 72")))
    assert isinstance(action, Conclude)
    assert action.why == "nothing can be served here: it takes 131 GiB of 72"
    assert action.decision.verdict is Verdict.NO_MEASUREMENT


def test_a_baseline_that_turns_out_too_big_is_scored_then() -> None:
    tried = trial(0, BASELINE, **failed(FailureReason.ENGINE_OOM))
    action = plan(state(tried))
    assert isinstance(action, Measure)
    assert (action.trial.is_reference, action.trial.number) == (True, 1)
    assert plan(state(tried, scored(1))) == AskStrategy(number=2)
    assert state(tried, scored(1, phase=TrialPhase.PENDING)).baseline == scored(1, phase=TrialPhase.PENDING)


def test_without_a_served_baseline_the_first_that_fits_is_what_speed_is_compared_with() -> None:
    relative = {"metric": "perplexity", "maxDegradationPercent": 5}
    good = {"perplexity": exact(71)}
    trials = [
        trial(number, one, phase=TrialPhase.SUCCEEDED, metrics={"throughput": exact(speed), **good})
        for number, one, speed in ((1, INT8, 10), (2, INT4, 20))
    ]
    action = plan(state(scored(0), *trials, spec=spec(constraints=[relative])))
    assert isinstance(action, Confirm)
    assert (action.winner.number, action.baseline.number) == (2, 1)
    action = plan(state(scored(0), *trials, spec=spec(constraints=[relative], confirmation={"rounds": 0})))
    assert isinstance(action, Conclude)
    decision = action.decision
    assert (decision.winner, decision.speedup_over) == ("t-a-002", "t-a-001")
    assert decision.speedup is not None
    assert decision.speedup.value == pytest.approx(2)
    assert "The baseline is not served here (it takes 131 GiB): speed is compared with t-a-001" in decision.reason


def test_the_only_one_that_fits_wins_without_a_speed_up() -> None:
    only = trial(1, INT8, 10)
    done = state(scored(0), only, trial(2, INT4, **failed(FailureReason.ENGINE_OOM)))
    action = plan(done)
    assert isinstance(action, Conclude)
    assert (action.decision.winner, action.decision.speedup) == ("t-a-001", None)


@pytest.mark.parametrize(
    "ending", [one for one in ENDINGS if one.reason is FailureReason.ENGINE_OOM], ids=lambda one: one.name
)
def test_no_engine_that_ran_out_of_memory_ends_the_pool(ending: Ending) -> None:
    reason = diagnose(ending.log, ending.exit_code).reason
    assert plan(state(trial(0, BASELINE, **failed(reason)), scored(1))) == AskStrategy(number=2)


@pytest.mark.parametrize(
    "name", ["triton_shared_memory", "cuda_illegal_instruction", "triton_assertion", "gaudi_graph_compile"]
)
def test_a_baseline_whose_own_kernels_fail_does_not_stop_those_that_run_on_others(name: str) -> None:
    ending = next(one for one in ENDINGS if one.name == name)
    failure = diagnose(ending.log, ending.exit_code)
    assert failure.reason is FailureReason.ENGINE_LOAD_FAILED
    unserved = trial(0, BASELINE, phase=TrialPhase.FAILED, failure=failure)
    action = plan(state(unserved))
    assert isinstance(action, Measure)
    assert action.trial.is_reference
    assert plan(state(unserved, scored(1))) == AskStrategy(number=2)


@pytest.mark.parametrize("name", ["architecture_unknown", "tokenizer_of_other_transformers", "fabric_manager"])
def test_a_baseline_that_fails_by_its_model_image_or_node_ends_the_pool(name: str) -> None:
    ending = next(one for one in ENDINGS if one.name == name)
    failure = diagnose(ending.log, ending.exit_code)
    action = plan(state(trial(0, BASELINE, phase=TrialPhase.FAILED, failure=failure)))
    assert isinstance(action, Conclude)
    assert "the baseline cannot be served" in action.why


def test_a_limit_relative_to_a_failed_baseline_ends_the_pool_with_the_remedy() -> None:
    relative = spec(constraints=[{"metric": "perplexity", "maxDegradationPercent": 1}])
    unscored = scored(1, **failed(FailureReason.QUANTIZATION_FAILED))
    action = plan(state(trial(0, BASELINE, **failed(FailureReason.ENGINE_OOM)), unscored, spec=relative))
    assert isinstance(action, Conclude)
    assert "give absolute limits (min, max)" in action.why


def test_the_budget_ends_the_search() -> None:
    few = spec(budget={"maxTrials": 1}, confirmation={"rounds": 0})
    action = plan(state(trial(0, BASELINE, 10), trial(1, INT8, 20), spec=few))
    assert isinstance(action, Conclude)
    assert "budget.maxTrials 1" in action.why


def test_a_trial_takes_the_place_of_what_it_was_before() -> None:
    waiting, measured = trial(1, INT8), trial(1, INT8, 20)
    known = state(trial(0, BASELINE, 10), waiting, trial(2, INT4))
    assert known.with_trial(measured) == state(trial(0, BASELINE, 10), measured, trial(2, INT4))
    assert state().with_trial(waiting).trials == (waiting,)


def test_what_trials_rule_out_is_not_left_to_try_and_the_end_says_so() -> None:
    space = SearchSpace(BASELINE, (INT4, Configuration.of("W4A16", "gptq"), Configuration.of("W4A16", "gptq", 32)))
    no_kernel = Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message="this device has no kernel for the scheme (x)")
    failing: dict[str, Any] = {"phase": TrialPhase.FAILED, "failure": no_kernel}
    action = plan(state(trial(0, BASELINE, 10), trial(1, INT4, **failing), space=space))
    assert isinstance(action, Conclude)
    assert action.why == (
        "every feasible configuration has been tried, or is ruled out by what trials have shown (2 are)"
    )


def test_a_bound_of_what_trials_rule_out_keeps_no_search_alive() -> None:
    other = Configuration.of("W4A16", "gptq")
    space = SearchSpace(BASELINE, (INT8, INT4, other), bounds={INT8: 5, INT4: 50, other: 50})
    no_kernel = Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message="this device has no kernel for the scheme (x)")
    failing: dict[str, Any] = {"phase": TrialPhase.FAILED, "failure": no_kernel}
    action = plan(state(trial(0, BASELINE, 10), trial(1, INT4, **failing), space=space))
    assert isinstance(action, Conclude)
    assert "nothing untried can win" in action.why


def test_a_published_checkpoint_that_changed_or_is_not_named_any_more_does_not_count() -> None:
    old = Configuration(scheme=Scheme.W4A16, algorithm=Algorithm.PUBLISHED, variant="theirs@0000")
    new = old.model_copy(update={"variant": "theirs@1111"})
    trials = trial(0, BASELINE, 100), trial(1, old, 300), trial(2, new, 200), trial(3, INT8, 150)
    space = SearchSpace(BASELINE, (INT8, new), variants=frozenset({"theirs@1111"}))
    known = state(*trials, space=space, spec=spec(confirmation={"rounds": 0}))
    assert [one.number for one in known.finished_trials] == [0, 2, 3]
    assert known.next_number == 4, "its name stays taken"
    action = plan(known)
    assert isinstance(action, Conclude)
    assert action.decision.winner == trials[2].name


def test_a_load_generator_that_is_slower_than_an_engine_ends_the_search() -> None:
    too_fast = trial(1, INT8, **failed(FailureReason.LOAD_GENERATOR_LIMIT))
    action = plan(state(trial(0, BASELINE, 10), too_fast))
    assert isinstance(action, Conclude)
    assert action.decision.verdict is Verdict.NO_MEASUREMENT
    assert action.why == "trial 1 is faster than the load generator, and so may others be"
