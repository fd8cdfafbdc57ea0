"""The winner, by arithmetic: nothing here asks an opinion, and the same trials in any order give the same answer.

0. Where a trial was faster than the load generator there is no answer: the best of the others is the fastest of the
   slow.
1. Drop what breaks a constraint.
2. A configuration replaces the baseline only if it beats it by more than the noise and by more than the smallest
   improvement that counts. (A baseline that breaks the constraints itself need not be beaten.)
3. "Within noise of each other" is not transitive, so ties are counted from one end: B is the best point estimate among
   those left; whatever B does not beat is tied with it; the simplest of the tied wins (`simplicity`).
4. A confirmation, winner and baseline measured alternately, has the last word over the trials. It is what the winner's
   figure should be quoted from: the best of many noisy trials looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from haqa_contract import Estimate
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.trial import Trial
from haqa_operator.decision import reasons
from haqa_operator.decision.bindings import Binding, bindings
from haqa_operator.decision.comparison import beats
from haqa_operator.decision.evidence import Evidence, Judged, gather
from haqa_operator.decision.pareto import axes, front
from haqa_operator.decision.results import Confirmation, Decision, Rejection, Verdict

_EVEN = Estimate(value=1, low=1, high=1, n=1)


def decide(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    min_improvement_percent: float,
    confirmation: Confirmation | None = None,
) -> Decision:
    """The answer for one pool.

    Args:
        trials: The pool's trials in any order; unfinished ones are ignored.
        objectives: The first decides; `pareto.axes` says what the front is drawn over.
        min_improvement_percent: A smaller gain counts as none.
        confirmation: Used if it is about the trial that these trials choose, ignored otherwise.
    """
    evidence = gather(trials, objectives, constraints, min_improvement_percent)
    ranked = bindings(evidence)
    if evidence.too_fast is not None:
        return _decision(evidence, Verdict.NO_MEASUREMENT, reasons.faster_than_the_generator(evidence.too_fast))
    if not evidence.conclusive:
        return _decision(evidence, Verdict.NO_MEASUREMENT, reasons.nothing_measured(evidence))
    if not evidence.feasible:
        reason = reasons.nothing_feasible(evidence, ranked)
        binding = ranked[0].constraint.describe() if ranked else None
        return _decision(evidence, Verdict.NOTHING_FEASIBLE, reason, binding=binding)
    challengers = _challengers(evidence)
    if not challengers:
        return _baseline_stays(evidence, ranked, reasons.baseline_best(evidence))
    winner = _simplest_of_the_best(evidence, challengers)
    seen = _ratio_to_reference(evidence, winner)
    confirmed = confirmation if confirmation is not None and confirmation.winner == winner.trial.name else None
    if confirmed is not None and not beats(confirmed.ratio, min_improvement_percent) and _must_be_beaten(evidence):
        return _baseline_stays(evidence, ranked, reasons.not_confirmed(evidence, winner, confirmed, seen))
    ratio = confirmed.ratio if confirmed is not None else seen
    return _decision(
        evidence,
        Verdict.WINNER,
        reasons.won(evidence, winner, ratio, confirmed=confirmed is not None),
        winner=winner,
        speedup=ratio,
        binding=_what_held_back(evidence, winner, ranked),
        confirmed=confirmed is not None,
    )


def _must_be_beaten(evidence: Evidence) -> bool:
    return evidence.baseline is not None and evidence.baseline.feasible


def _challengers(evidence: Evidence) -> list[Judged]:
    """Everything that could take the baseline's place."""
    others = [item for item in evidence.feasible if not item.trial.is_baseline]
    baseline = evidence.baseline
    if baseline is None or not baseline.feasible:
        return others
    return [item for item in others if evidence.compare(item, baseline).better]


def _simplest_of_the_best(evidence: Evidence, challengers: Sequence[Judged]) -> Judged:
    best = evidence.best(challengers)
    tied = [item for item in challengers if not evidence.compare(best, item).better]
    return min(tied, key=evidence.simplicity)


def _ratio_to_reference(evidence: Evidence, winner: Judged) -> Estimate | None:
    reference = evidence.reference
    if reference is None or reference.score is None or reference is winner:
        return None
    return evidence.compare(winner, reference).ratio


def _baseline_stays(evidence: Evidence, ranked: Sequence[Binding], reason: str) -> Decision:
    assert evidence.baseline is not None
    return _decision(
        evidence,
        Verdict.BASELINE_BEST,
        reason,
        winner=evidence.baseline,
        speedup=_EVEN,
        binding=_what_held_back(evidence, evidence.baseline, ranked),
    )


def _what_held_back(evidence: Evidence, winner: Judged, ranked: Sequence[Binding]) -> str | None:
    """The constraint that kept a better trial from winning, where one did."""
    better = [
        item
        for item in evidence.judged
        if item.score is not None and item.broken and evidence.compare(item, winner).better
    ]
    if not better:
        return None
    broken = [finding.constraint for finding in evidence.best(better).broken]
    return next(binding.constraint.describe() for binding in ranked if binding.constraint in broken)


def _other_reference(evidence: Evidence) -> str | None:
    """What speed was compared with, where that is not the baseline."""
    reference = evidence.reference
    return None if reference is None or reference.trial.is_baseline else reference.trial.name


def _decision(
    evidence: Evidence,
    verdict: Verdict,
    reason: str,
    *,
    winner: Judged | None = None,
    speedup: Estimate | None = None,
    binding: str | None = None,
    confirmed: bool = False,
) -> Decision:
    feasible = [item.trial for item in evidence.feasible]
    over = axes(feasible, evidence.objectives, evidence.constraints)
    rejections = [(item.trial.name, reasons.why_rejected(evidence, item)) for item in evidence.judged]
    return Decision(
        verdict=verdict,
        winner=winner.trial.name if winner else None,
        reason=reason,
        binding=binding,
        speedup=speedup,
        confirmed=confirmed,
        speedup_over=_other_reference(evidence),
        pareto=tuple(trial.name for trial in front(feasible, over)),
        rejections=tuple(Rejection(trial=name, reason=why) for name, why in rejections if why is not None),
    )
