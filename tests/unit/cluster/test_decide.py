"""Whatever the cluster shows, the next actions follow from it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.tuning.pool_states import BASELINE, INT4, INT8, failed, state, trial

from haqa_contract import Configuration, Failure, FailureReason, TrialReport
from haqa_operator.api import Trial, TrialPhase
from haqa_operator.api.tuning import Confirmation
from haqa_operator.cluster.decide import (
    JOB_ATTEMPTS,
    Attempt,
    MakeArtifact,
    PoolObservation,
    Propose,
    Record,
    RemoveJob,
    ShowProgress,
    StartJob,
    TryAgain,
    pool_actions,
)
from haqa_operator.cluster.observe.attempts import LogWanted, TrialObservation
from haqa_operator.cluster.observe.making import Making
from haqa_operator.decision.results import Verdict
from haqa_operator.tuning.plan import AskStrategy, Conclude, PoolState


def with_spec(known: PoolState, **changes: object) -> PoolState:
    return replace(known, spec=known.spec.model_copy(update=changes))


def running(phase: TrialPhase = TrialPhase.LOADING, attempt: int = 1) -> Attempt:
    return Attempt(attempt, TrialObservation(phase, "at work"))


def ended(reason: FailureReason | None = None, attempt: int = 1, **more: Any) -> Attempt:
    failure = Failure(reason=reason, message="it did not work") if reason else None
    phase = TrialPhase.FAILED if reason else TrialPhase.SUCCEEDED
    observation = TrialObservation(phase, "over", TrialReport(trial="t", failure=failure))
    return Attempt(attempt, replace(observation, **more))


def actions(known: PoolState, asking: bool = False, leaving: tuple[str, ...] = (), **attempts: Attempt) -> list[object]:
    """Attempts by the trial's number, written `n0=…`."""
    named = {f"t-a-{int(number[1:]):03d}": attempt for number, attempt in attempts.items()}
    return list(pool_actions(PoolObservation(known, named, asking, frozenset(leaving))))


def done(number: int, configuration: Configuration, throughput: float, **status: object) -> Trial:
    return trial(number, configuration, throughput, **status)


def test_an_empty_pool_begins_with_the_baseline() -> None:
    (action,) = actions(state())
    assert isinstance(action, Propose)
    assert action.trial.is_baseline


def test_a_recorded_trial_without_a_job_gets_one() -> None:
    pending = trial(0, BASELINE)
    assert actions(state(pending)) == [StartJob(pending, 1)]


def test_nothing_is_done_while_the_baseline_runs_even_if_trials_may_run_in_parallel() -> None:
    known = with_spec(state(trial(0, BASELINE, phase=TrialPhase.LOADING)), parallel_trials=4)
    assert actions(known, n0=running()) == []


def test_status_follows_the_pod() -> None:
    pending = trial(0, BASELINE)
    seen = running(TrialPhase.MEASURING)
    assert actions(state(pending), n0=seen) == [ShowProgress(pending, seen.observation)]


def test_a_finished_job_is_recorded_before_the_next_trial_is_asked_for() -> None:
    pending = trial(0, BASELINE)
    seen = ended()
    assert actions(state(pending), n0=seen) == [Record(pending, seen.observation, 1)]


def test_a_report_that_lies_in_a_log_is_waited_for() -> None:
    pending = trial(0, BASELINE)
    assert actions(state(pending), n0=ended(logs_wanted=(LogWanted("pod", "measure"),))) == []


@pytest.mark.parametrize("reason", [reason for reason in FailureReason if reason.transient])
def test_transient_failures_are_tried_again_a_bounded_number_of_times(reason: FailureReason) -> None:
    pending = trial(0, BASELINE)
    first = ended(reason)
    assert actions(state(pending), n0=first) == [TryAgain(pending, first.observation, 1)]
    last, due = ended(reason, attempt=JOB_ATTEMPTS), trial(0, BASELINE, attempts=JOB_ATTEMPTS)
    assert actions(state(due), n0=last) == [Record(due, last.observation, JOB_ATTEMPTS)]


def test_an_attempt_begins_when_nothing_of_the_one_before_it_is_left() -> None:
    due = trial(0, BASELINE, attempts=2)
    assert actions(state(due), n0=ended(FailureReason.EVICTED)) == [RemoveJob(due, 1)]
    assert actions(state(due), leaving=(due.name,)) == []
    assert actions(state(due)) == [StartJob(due, 2)]
    assert actions(with_spec(state(due), suspend=True)) == []


@pytest.mark.parametrize("reason", [reason for reason in FailureReason if not reason.transient])
def test_deterministic_failures_are_never_tried_again(reason: FailureReason) -> None:
    pending = trial(0, BASELINE)
    seen = ended(reason)
    assert actions(state(pending), n0=seen) == [Record(pending, seen.observation, 1)]


def test_after_the_baseline_the_strategy_is_asked_once() -> None:
    known = state(done(0, BASELINE, 100))
    assert actions(known) == [AskStrategy(1)]
    assert actions(known, asking=True) == []


def test_parallel_trials_fill_up_one_by_one_and_no_further() -> None:
    loading = trial(1, INT8, phase=TrialPhase.LOADING)
    known = state(done(0, BASELINE, 100), loading)
    assert actions(known, n1=running()) == []
    two = with_spec(known, parallel_trials=2)
    assert actions(two, n1=running()) == [AskStrategy(2)]
    full = replace(two, trials=(*two.trials, trial(2, INT4, phase=TrialPhase.LOADING)))
    assert actions(full, n1=running(), n2=running()) == []


def test_running_trials_count_against_the_budget() -> None:
    known = state(done(0, BASELINE, 100), trial(1, INT8, phase=TrialPhase.LOADING))
    budget = known.spec.budget.model_copy(update={"max_trials": 1})
    spent = with_spec(known, parallel_trials=2, budget=budget)
    assert actions(spent, n1=running()) == []


def test_a_recorded_trial_whose_job_goes_on_does_not_keep_its_node() -> None:
    over = trial(0, BASELINE, **failed(FailureReason.ENGINE_LOAD_FAILED))
    known = with_spec(state(over), suspend=True)
    assert pool_actions(PoolObservation(known, lingering={over.name: 1})) == (RemoveJob(over, 1),)


def test_running_trials_are_not_yet_without_success() -> None:
    loading = trial(2, INT4, phase=TrialPhase.LOADING)
    known = with_spec(state(done(0, BASELINE, 100), done(1, INT8, 50), loading), parallel_trials=2)
    known = replace(known, space=replace(known.space, candidates=(INT8, INT4, Configuration.of("FP8-DYNAMIC", "rtn"))))
    patient = with_spec(known, search=known.spec.search.model_copy(update={"stop_after_no_improvement": 2}))
    assert actions(patient, n2=running()) == [AskStrategy(3)]
    eager = with_spec(known, search=known.spec.search.model_copy(update={"stop_after_no_improvement": 1}))
    assert actions(eager, n2=running()) == []


def test_a_trial_that_somebody_deleted_leaves_its_number_and_its_configuration_free() -> None:
    assert actions(state(done(0, BASELINE, 100), done(2, INT4, 120))) == [AskStrategy(3)]


def test_a_baseline_that_somebody_deleted_is_measured_again_once_nothing_else_runs() -> None:
    loading = trial(2, INT4, phase=TrialPhase.LOADING)
    known = with_spec(state(done(1, INT8, 150), loading), parallel_trials=4)
    assert actions(known, n2=running()) == []
    (action,) = actions(state(done(1, INT8, 150)))
    assert isinstance(action, Propose)
    assert action.trial.is_baseline
    assert action.trial.name == "t-a-000"


def test_a_suspended_tuning_lets_trials_end_and_starts_none() -> None:
    known = with_spec(state(done(0, BASELINE, 100), trial(1, INT8)), suspend=True)
    assert actions(known) == []
    seen = ended()
    assert actions(known, n1=seen) == [Record(known.trials[1], seen.observation, 1)]
    assert actions(known, n1=ended(FailureReason.EVICTED)) == []
    assert actions(with_spec(state(), suspend=True)) == []


def test_an_exhausted_space_ends_in_a_decision() -> None:
    known = state(done(0, BASELINE, 100), done(1, INT8, 150), done(2, INT4, 120))
    (action,) = actions(with_spec(known, confirmation=Confirmation(rounds=0)))
    assert isinstance(action, Conclude)
    assert action.decision.verdict is Verdict.WINNER
    assert action.decision.winner == "t-a-001"


def test_a_winner_is_confirmed_by_windows_of_one_engine_at_a_time() -> None:
    known = state(done(0, BASELINE, 100), done(1, INT8, 150), done(2, INT4, 120), one_engine=True)
    (action,) = actions(known)
    assert isinstance(action, Propose)
    assert (action.trial.is_confirmation, action.trial.proposal.confirms) == (True, "t-a-001")
    beside = known.with_trial(action.trial)
    assert not any(isinstance(one, Propose) for one in actions(beside)), "one after the other"


def test_the_windows_of_a_round_run_at_once_where_the_winners_node_has_room_for_two() -> None:
    known = state(
        done(0, BASELINE, 100), done(1, INT8, 150, node="n1"), done(2, INT4, 120), one_engine=True, room={"n1": 2}
    )
    known = with_spec(known, parallel_trials=4)
    (first,) = actions(known)
    assert isinstance(first, Propose)
    known = known.with_trial(first.trial)
    (_, second) = actions(known)
    assert isinstance(second, Propose)
    assert {first.trial.configuration, second.trial.configuration} == {BASELINE, INT8}
    known = known.with_trial(second.trial)
    assert not any(isinstance(one, Propose) for one in actions(known)), "the next round waits for both"


def test_a_baseline_that_cannot_be_served_ends_the_pool() -> None:
    (action,) = actions(state(trial(0, BASELINE, **failed(FailureReason.ENGINE_LOAD_FAILED))))
    assert isinstance(action, Conclude)
    assert action.decision.verdict is not Verdict.WINNER
    assert "the baseline cannot be served" in action.why


def test_a_raised_budget_goes_on_where_it_ended() -> None:
    known = state(done(0, BASELINE, 100), done(1, INT8, 150))
    budget = known.spec.budget.model_copy(update={"max_trials": 1})
    spent = with_spec(known, budget=budget, confirmation=Confirmation(rounds=0))
    (action,) = actions(spent)
    assert isinstance(action, Conclude)
    assert actions(known) == [AskStrategy(2)]


WAITING = trial(1, INT8)
MADE = "ab" * 32


def of_artifact(known: PoolState | None = None, **making: Any) -> list[object]:
    """What is done about trial 1, whose artifact is as `making` says."""
    known = known or state(done(0, BASELINE, 100), WAITING)
    return list(pool_actions(PoolObservation(known, makings={WAITING.name: Making("m", **making)})))


def test_what_a_trial_serves_is_made_before_it_has_a_job() -> None:
    assert of_artifact() == [MakeArtifact(WAITING, 1)]
    at_work = TrialObservation(TrialPhase.QUANTIZING, "quantizing on n")
    assert of_artifact(seen=at_work, attempt=1) == [ShowProgress(WAITING, at_work)]
    shown = replace(state(), trials=(done(0, BASELINE, 100), trial(1, INT8, phase=TrialPhase.QUANTIZING)))
    assert of_artifact(shown, seen=at_work, attempt=1) == []
    assert of_artifact(digest=MADE) == [StartJob(WAITING, 1, MADE)]


def test_what_cannot_be_made_fails_the_trial_without_a_job() -> None:
    seen = ended(FailureReason.QUANTIZATION_OOM).observation
    assert of_artifact(seen=seen, attempt=1) == [Record(WAITING, seen, 1)]
    unread = replace(seen, logs_wanted=(LogWanted("pod", "quantize"),))
    assert of_artifact(seen=unread, attempt=1) == []


@pytest.mark.parametrize("reason", [reason for reason in FailureReason if reason.transient])
def test_making_is_tried_again_where_that_may_help(reason: FailureReason) -> None:
    seen = ended(reason).observation
    assert of_artifact(seen=seen, attempt=1) == [MakeArtifact(WAITING, 2)]
    assert of_artifact(seen=seen, attempt=JOB_ATTEMPTS) == [Record(WAITING, seen, 1)]


def test_a_suspended_tuning_makes_nothing_new_and_records_what_has_ended() -> None:
    known = with_spec(state(done(0, BASELINE, 100), WAITING), suspend=True)
    assert of_artifact(known) == of_artifact(known, digest=MADE) == []
    assert of_artifact(known, seen=ended(FailureReason.EVICTED).observation, attempt=1) == []
    seen = ended(FailureReason.QUANTIZATION_FAILED).observation
    assert of_artifact(known, seen=seen, attempt=1) == [Record(WAITING, seen, 1)]
