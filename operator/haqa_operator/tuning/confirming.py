"""Winner and baseline measured alternately where an engine is started for each window: it is a trial of its own.

Which of the two goes first changes with every round (A B, B A, A B, ...), so that neither profits from a machine that
gets steadily slower or faster. It ends with the first round that decides (`statistics.settled`).

Where trials may run in parallel and the winner's node has accelerators for two replicas, both windows of a round are
measured at once, each by engines that are started for it: what is drawn anew in every round is also which accelerator
either of them gets, since two of a kind differ by as much as some winners do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from haqa_contract import Estimate
from haqa_contract.statistics import FEWEST_PAIRS, geometric_estimate, settled
from haqa_operator.api import Proposal, Proposer, Trial, TuningSpec
from haqa_operator.api.goals import Objective
from haqa_operator.decision.results import Confirmation

FAILED_ROUNDS = 2
"""So many rounds without figures, and the winner stays unconfirmed."""


@dataclass(frozen=True)
class NextWindow:
    """What to measure next.

    Attributes:
        at_once: Beside the other window of its round, which is running.
    """

    proposal: Proposal
    at_once: bool = False


@dataclass(frozen=True)
class Unconfirmed:
    """It cannot be confirmed; why, for a person."""

    why: str


@dataclass(frozen=True)
class _Round:
    winner: Trial
    baseline: Trial

    def ratio(self, objective: Objective) -> float | None:
        """Turned so that above 1 the winner is better; None where one of the two has no figure."""
        key = str(objective.key)
        pair = [trial.status.metrics.get(key) for trial in (self.winner, self.baseline)]
        values = [one.value for one in pair if one is not None and one.value > 0]
        if len(values) < 2 or not (self.winner.succeeded and self.baseline.succeeded):
            return None
        return values[0] / values[1] if objective.maximize else values[1] / values[0]


def confirming(
    spec: TuningSpec,
    trials: Sequence[Trial],
    winner: Trial,
    baseline: Trial,
    room: Mapping[str, int] | None = None,
) -> NextWindow | Confirmation | Unconfirmed:
    """The next window, or what came of them.

    Args:
        trials: All of the pool, those of earlier confirmations among them.
        room: Node -> replicas that it has accelerators for, where that is known.
    """
    objective, most = spec.objectives[0], max(FEWEST_PAIRS, spec.confirmation.rounds)
    windows = sorted((one for one in trials if one.proposal.confirms == winner.name), key=lambda one: one.number)
    rounds = _rounds(windows, winner)
    ratios = [ratio for one in rounds if (ratio := one.ratio(objective)) is not None]
    if len(rounds) - len(ratios) >= FAILED_ROUNDS:
        failed = next(one for one in windows if one.status.failure is not None or not one.succeeded)
        why = failed.status.failure.message if failed.status.failure else "there are no figures"
        return Unconfirmed(f"not confirmed: {FAILED_ROUNDS} rounds have no figures ({why})")
    over = len(rounds) >= most
    least = 1 + spec.search.min_improvement_percent / 100
    if len(ratios) >= FEWEST_PAIRS and (over or settled(ratios, most, least)):
        return _confirmation(objective, winner, baseline, rounds, ratios)
    if over:
        return Unconfirmed(f"not confirmed: {len(ratios)} of {most} rounds have figures")
    running = sum(not one.status.phase.finished for one in windows)
    limit, spent = spec.budget.max_gpu_hours, math.fsum(trial.status.machine_hours for trial in trials)
    if limit is not None and spent + (running + 1) * winner.status.machine_hours > limit:
        return Unconfirmed(f"not confirmed: budget.maxGpuHours {limit:g} leaves no time for it")
    failed_before = any(one.status.phase.finished and not one.succeeded for one in windows)
    fit = spec.parallel_trials > 1 and (room or {}).get(winner.status.node or "", 1) > 1
    return NextWindow(
        _proposal(winner, baseline, len(windows)),
        # Somebody else may have the second accelerator: the window would wait for it until it fails.
        at_once=fit and running == 1 and len(windows) % 2 == 1 and not failed_before,
    )


def _proposal(winner: Trial, baseline: Trial, done: int) -> Proposal:
    number, second = divmod(done, 2)
    first_is_winner = number % 2 == 0
    side = winner if first_is_winner != bool(second) else baseline
    return Proposal(
        configuration=side.configuration,
        proposer=Proposer.CONFIRMATION,
        confirms=winner.name,
        reasoning=f"Round {number + 1} of measuring {winner.called} and {baseline.called} alternately.",
    )


def _rounds(windows: Sequence[Trial], winner: Trial) -> list[_Round]:
    """Those of which both windows are finished."""
    done = [one for one in windows if one.status.phase.finished]
    pairs = [done[at : at + 2] for at in range(0, len(done) - 1, 2)]
    rounds = []
    for pair in pairs:
        of_winner = [one for one in pair if one.configuration == winner.configuration]
        of_baseline = [one for one in pair if one.configuration != winner.configuration]
        if of_winner and of_baseline:
            rounds.append(_Round(of_winner[0], of_baseline[0]))
    return rounds


def _confirmation(
    objective: Objective, winner: Trial, baseline: Trial, rounds: Sequence[_Round], ratios: Sequence[float]
) -> Confirmation:
    key = str(objective.key)
    counted = [one for one in rounds if one.ratio(objective) is not None]
    seconds = (
        (trial.status.finished or 0.0) - (trial.status.started or 0.0)
        for one in rounds
        for trial in (one.winner, one.baseline)
    )
    ratio: Estimate = geometric_estimate(ratios)
    return Confirmation(
        winner=winner.name,
        baseline=baseline.name,
        metric=key,
        ratio=ratio,
        winner_values=tuple(one.winner.status.metrics[key].value for one in counted),
        baseline_values=tuple(one.baseline.status.metrics[key].value for one in counted),
        seconds=math.fsum(seconds),
    )
