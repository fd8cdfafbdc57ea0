"""A tuning's status answers whether it is fine, and if not why; and is written only where something has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.tuning.pool_states import BASELINE, INT8, failed, state, trial

from haqa_contract import FailureReason
from haqa_operator.api.status import PoolPhase, TuningPhase, TuningStatus
from haqa_operator.cluster.build.statuses import PoolView, TuningView, tuning_status
from haqa_operator.decision.choose import decide

SEARCHING = PoolView("a", PoolPhase.SEARCHING, "trial 1", "a GPU", state(trial(0, BASELINE, 100), trial(1, INT8)))


def view(*pools: PoolView, **more: Any) -> TuningView:
    return replace(TuningView(generation=3, suspended=False, pools=pools), **more)


def condition(status: TuningStatus, kind: str) -> tuple[str, str]:
    found = next(condition for condition in status.conditions if condition.type == kind)
    return found.status, found.message


def test_a_search_under_way_shows_how_far_it_is() -> None:
    status = tuning_status(view(SEARCHING), TuningStatus(), 1000)
    assert status.phase is TuningPhase.RUNNING
    assert (status.pools_done, status.trials_done, status.observed_generation) == ("0/1", "1/2", 3)
    assert condition(status, "Progressing") == ("True", 'pool "a": trial 1')
    assert condition(status, "Degraded")[0] == "False"


def test_the_same_view_later_is_the_same_status() -> None:
    before = tuning_status(view(SEARCHING), TuningStatus(), 1000)
    assert tuning_status(view(SEARCHING), before, 2000) == before


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    before = tuning_status(view(SEARCHING), TuningStatus(), 1000)
    known = state(trial(0, BASELINE, 100), trial(1, INT8, 150))
    decision = decide(known.trials, known.spec.objectives, (), 3)
    done = PoolView("a", PoolPhase.SUCCEEDED, "", "a GPU", known, decision, "all tried", "t-a")
    after = tuning_status(view(done), before, 2000)
    times = {c.type: c.last_transition_time for c in after.conditions}
    assert after.phase is TuningPhase.SUCCEEDED
    assert after.best_speedup == "1.50x"
    assert times["Ready"] == "1970-01-01T00:33:20Z"
    assert times["Degraded"] == "1970-01-01T00:16:40Z"


def test_a_pool_that_needs_a_person_is_named_with_its_reason() -> None:
    broken = PoolView(
        "b", PoolPhase.FAILED, state=state(trial(0, BASELINE, **failed(FailureReason.ENGINE_LOAD_FAILED))), problem="no"
    )
    status = tuning_status(view(SEARCHING, broken), TuningStatus(), 1000)
    assert condition(status, "Degraded") == ("True", 'pool "b": no')
    assert status.phase is TuningPhase.RUNNING


def test_a_refused_spec_has_failed_and_says_why() -> None:
    status = tuning_status(view(problem="spec.x: wrong"), TuningStatus(), 1000)
    assert status.phase is TuningPhase.FAILED
    assert condition(status, "Degraded") == ("True", "spec.x: wrong")


def test_suspended_before_the_first_trial_is_pending_and_can_still_change() -> None:
    waiting = PoolView("a", PoolPhase.PENDING, "waiting")
    assert tuning_status(view(waiting, suspended=True), TuningStatus(), 1000).phase is TuningPhase.PENDING
    assert tuning_status(view(SEARCHING, suspended=True), TuningStatus(), 1000).phase is TuningPhase.SUSPENDED


def test_what_a_pool_is_measured_with_is_kept_while_it_has_no_node() -> None:
    before = tuning_status(view(SEARCHING), TuningStatus(), 1000)
    assert before.pools[0].measured_with is not None
    empty = PoolView("a", PoolPhase.PENDING, "waiting: no node matches")
    after = tuning_status(view(empty), before, 2000)
    assert after.pools[0].measured_with == before.pools[0].measured_with
