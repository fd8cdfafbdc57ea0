"""Winner and baseline measured alternately by trials: which comes next, when it is enough, and what it says."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.unit.tuning.pool_states import BASELINE, INT8, failed, spec, trial

from haqa_contract import FailureReason
from haqa_operator.api import Proposal, Proposer, Trial, TuningSpec
from haqa_operator.decision.comparison import beats
from haqa_operator.decision.results import Confirmation
from haqa_operator.tuning.confirming import NextWindow, Unconfirmed, confirming

FIRST, WINNER = trial(0, BASELINE, 100), trial(1, INT8, 150)

Speed = Callable[[Trial], float | None]


def of(rounds: int = 5, **more: object) -> TuningSpec:
    return spec(confirmation={"rounds": rounds}, **more)


def measured_to_the_end(speed: Speed, tuning: TuningSpec) -> tuple[list[Trial], Confirmation | Unconfirmed]:
    """All windows, each measured as soon as it is asked for, and what came of them."""
    trials = [FIRST, WINNER]
    while True:
        step = confirming(tuning, trials, WINNER, FIRST)
        if not isinstance(step, NextWindow):
            return trials[2:], step
        window = trial(len(trials), step.proposal.configuration, 1.0).model_copy(update={"proposal": step.proposal})
        value = speed(window)
        status = (
            trial(9, BASELINE, value).status if value else trial(9, BASELINE, **failed(FailureReason.EVICTED)).status
        )
        trials.append(window.model_copy(update={"status": status}))


def exactly(winner: float, baseline: float) -> Speed:
    return lambda window: winner if window.configuration == INT8 else baseline


def noisy(winner: float, baseline: float, seed: int, deviation: float = 0.02) -> Speed:
    drawn = random.Random(seed)
    return lambda window: exactly(winner, baseline)(window) * drawn.lognormvariate(0, deviation)  # type: ignore[operator]


def test_which_comes_first_alternates() -> None:
    windows, _ = measured_to_the_end(noisy(103, 100, 1, 0.3), of(rounds=3))
    order = ["winner" if window.configuration == INT8 else "baseline" for window in windows]
    assert order == ["winner", "baseline", "baseline", "winner", "winner", "baseline"]
    assert {window.proposal.proposer for window in windows} == {Proposer.CONFIRMATION}
    assert {window.proposal.confirms for window in windows} == {WINNER.name}


def test_a_clear_winner_takes_two_rounds() -> None:
    windows, found = measured_to_the_end(exactly(150, 100), of())
    assert len(windows) == 4
    assert isinstance(found, Confirmation)
    assert found.ratio.value == pytest.approx(1.5)
    assert (found.winner, found.baseline, found.metric) == (WINNER.name, FIRST.name, "throughput")


def test_no_more_rounds_than_asked_for() -> None:
    windows, found = measured_to_the_end(noisy(101, 100, 3, 0.3), of(rounds=4))
    assert len(windows) == 8
    assert isinstance(found, Confirmation)
    assert not beats(found.ratio, 2)


def test_looking_after_each_round_finds_no_more_in_noise_than_one_look_may() -> None:
    found = [measured_to_the_end(noisy(100, 100, seed), of())[1] for seed in range(300)]
    wrong = sum(isinstance(one, Confirmation) and beats(one.ratio, 0) for one in found)
    assert wrong <= 0.05 * len(found)


def test_a_real_gain_is_found() -> None:
    found = [measured_to_the_end(noisy(115, 100, seed), of())[1] for seed in range(60)]
    assert sum(isinstance(one, Confirmation) and beats(one.ratio, 2) for one in found) >= 57


def test_a_latency_counts_the_other_way_round() -> None:
    lower = of(objective={"metric": "ttft", "percentile": 95})
    key = str(lower.objectives[0].key)

    def with_latency(one: Trial, value: float) -> Trial:
        exact = trial(0, BASELINE, value).status.metrics["throughput"]
        return one.model_copy(update={"status": one.status.model_copy(update={"metrics": {key: exact}})})

    windows = []
    for number, (side, value) in enumerate([(INT8, 50.0), (BASELINE, 100.0), (BASELINE, 100.0), (INT8, 50.0)], start=2):
        proposal = Proposal(configuration=side, proposer=Proposer.CONFIRMATION, confirms=WINNER.name)
        windows.append(with_latency(trial(number, side, 1.0).model_copy(update={"proposal": proposal}), value))
    found = confirming(lower, [FIRST, WINNER, *windows], WINNER, FIRST)
    assert isinstance(found, Confirmation)
    assert found.ratio.value == pytest.approx(2)


def test_rounds_without_figures_end_it_unconfirmed() -> None:
    _, found = measured_to_the_end(lambda _: None, of())
    assert isinstance(found, Unconfirmed)
    assert "2 rounds have no figures" in found.why


def test_one_failed_round_is_made_up_for() -> None:
    values = iter([None, 100.0])
    rest = exactly(150, 100)
    _, found = measured_to_the_end(lambda window: next(values, rest(window)), of())
    assert isinstance(found, Confirmation)
    assert len(found.winner_values) == 2


def test_a_spent_budget_leaves_it_unconfirmed() -> None:
    spent = WINNER.model_copy(update={"status": WINNER.status.model_copy(update={"machine_hours": 3.0})})
    found = confirming(of(budget={"maxGpuHours": 4}), [FIRST, spent], spent, FIRST)
    assert isinstance(found, Unconfirmed)
    assert "maxGpuHours" in found.why


def begun(tuning: TuningSpec, room: dict[str, int], *windows: Trial) -> NextWindow:
    """What is next while the first window of a round runs, of a winner that was measured on node n1."""
    winner = WINNER.model_copy(update={"status": WINNER.status.model_copy(update={"node": "n1"})})
    first = confirming(tuning, [FIRST, winner, *windows], winner, FIRST, room)
    assert isinstance(first, NextWindow)
    running = trial(7, first.proposal.configuration).model_copy(update={"proposal": first.proposal})
    step = confirming(tuning, [FIRST, winner, *windows, running], winner, FIRST, room)
    assert isinstance(step, NextWindow)
    return step


@pytest.mark.parametrize(
    ("parallel", "room", "at_once"),
    [(2, {"n1": 2}, True), (1, {"n1": 2}, False), (2, {"n1": 1, "n2": 8}, False), (2, {}, False)],
    ids=["room for two", "one trial at a time", "another node has room", "nothing is known"],
)
def test_both_windows_of_a_round_run_at_once_where_there_is_room(
    parallel: int, room: dict[str, int], at_once: bool
) -> None:
    assert begun(of(parallelTrials=parallel), room).at_once is at_once


def test_once_a_window_has_failed_they_run_one_after_the_other() -> None:
    windows, _ = measured_to_the_end(lambda window: 0.0 if window.number == 2 else 100.0, of(rounds=2))
    assert begun(of(parallelTrials=2, rounds=4), {"n1": 2}, *windows[:2]).at_once is False


def test_the_budget_reckons_with_the_window_that_runs() -> None:
    tuning = of(parallelTrials=2, budget={"maxGpuHours": 2.5})
    winner = WINNER.model_copy(update={"status": WINNER.status.model_copy(update={"machine_hours": 1.0})})
    first = confirming(tuning, [FIRST, winner], winner, FIRST)
    assert isinstance(first, NextWindow)
    running = trial(2, first.proposal.configuration).model_copy(update={"proposal": first.proposal})
    assert isinstance(confirming(tuning, [FIRST, winner, running], winner, FIRST), Unconfirmed)
