"""Trials -> observations: the view of the past that every search strategy shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import UNJUDGED_EXCESS, References, judge_trial, measured


@dataclass(frozen=True)
class Observation:
    """One trial as the search sees it.

    Attributes:
        score: The objective turned so that higher is better (latencies negated); None when the trial failed.
        violation: Sum of relative excesses over the constraints; 0 = meets all. Infinite when the trial failed, but
            finite (without a score) when it was ended at the accuracy gate: that is a measurement.
        broken: The constraints that it breaks, in words; for a failed trial, how it failed.
    """

    trial: Trial
    score: float | None
    violation: float
    broken: tuple[str, ...] = ()


def observations_of(
    trials: Sequence[Trial], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> list[Observation]:
    """One observation for each finished trial, in the order given; the first objective is the score."""
    references = References.among(trials)
    finished = [trial for trial in trials if trial.status.phase.finished]
    return [observation(trial, objectives[0], constraints, references) for trial in finished]


def observation(
    trial: Trial, objective: Objective, constraints: Sequence[Constraint], references: References
) -> Observation:
    """What one finished trial says.

    A miss of the accuracy gate is a measurement, not an accident: it has no score, but a finite violation, from which
    a search learns which way accuracy lies.
    """
    findings = judge_trial(constraints, trial, references)
    broken = tuple(finding.sentence for finding in findings if not finding.met)
    violation = math.fsum(finding.excess for finding in findings)
    if not trial.succeeded:
        if findings:
            return Observation(trial, None, violation or UNJUDGED_EXCESS, broken or (failure_sentence(trial),))
        return Observation(trial, None, math.inf, (failure_sentence(trial),))
    value = score(trial, objective)
    if value is None and trial.status.ended_early:
        return Observation(trial, None, violation or UNJUDGED_EXCESS, broken or (trial.status.ended_early,))
    if value is None:
        return Observation(trial, None, math.inf, (*broken, unscored_sentence(trial, objective)))
    return Observation(trial, value, violation, broken)


def score(trial: Trial, objective: Objective) -> float | None:
    """The objective turned so that higher is better; None when there is no value above 0.

    Configurations are compared by ratios, so a rate or latency of zero or below is not a measurement.
    """
    value = measured(trial, objective.key)
    if value is None or value <= 0 or not trial.succeeded:
        return None
    return value if objective.maximize else -value


def failure_sentence(trial: Trial) -> str:
    failure = trial.status.failure
    return f"{failure.reason.value}: {failure.message}" if failure else "failed without a reason"


def unscored_sentence(trial: Trial, objective: Objective) -> str:
    if trial.is_reference:
        return f"it is not served here: {trial.proposal.note}"
    value = measured(trial, objective.key)
    if value is None:
        return f"{objective.key} was not measured, so it cannot be compared"
    return f"{objective.key} is {value:g}; only values above 0 can be compared"
