"""The decision in one or two sentences that a person can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from haqa_contract import Estimate
from haqa_operator.decision.bindings import Binding
from haqa_operator.decision.constraints import measured
from haqa_operator.decision.evidence import Evidence, Judged
from haqa_operator.decision.observations import failure_sentence, unscored_sentence
from haqa_operator.decision.results import Confirmation
from haqa_operator.metrics.quantities import quantity


def times(ratio: Estimate) -> str:
    """`1.60x (1.55 to 1.65)`; without the interval where one repeat cannot give one."""
    if ratio.low == ratio.high:
        return f"{ratio.value:.3g}x"
    return f"{ratio.value:.3g}x ({ratio.low:.3g} to {ratio.high:.3g})"


def why_rejected(evidence: Evidence, item: Judged) -> str | None:
    """Why a trial cannot win; None for one that can."""
    if item.feasible:
        return None
    parts = [finding.sentence for finding in item.broken]
    if not item.trial.succeeded:
        parts = parts or [failure_sentence(item.trial)]
    elif item.trial.status.ended_early:
        parts = parts or [item.trial.status.ended_early]
    elif item.score is None:
        parts.append(unscored_sentence(item.trial, evidence.objective))
    return "; ".join(parts)


def nothing_measured(evidence: Evidence) -> str:
    if not evidence.judged:
        return "No trial finished, so there is nothing to choose from."
    unscored = [item for item in evidence.judged if item.trial.succeeded]
    if unscored:
        return f"No trial gives a value to choose by: {unscored_sentence(unscored[0].trial, evidence.objective)}."
    count = Counter(failure.reason.value for item in evidence.judged if (failure := item.trial.status.failure))
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(count.items(), key=lambda c: (-c[1], c[0])))
    first = evidence.judged[0]
    total = len(evidence.judged)
    failed = "The only trial" if total == 1 else f"Each of the {total} trials"
    return f"{failed} failed ({reasons or 'no reason given'}); {first.label}: {failure_sentence(first.trial)}"


def faster_than_the_generator(item: Judged) -> str:
    return (
        f"{item.label} is faster than can be measured here, so that the best of the other trials is no answer: "
        f"{failure_sentence(item.trial)}"
    )


def nothing_feasible(evidence: Evidence, ranked: Sequence[Binding]) -> str:
    """Names the constraint that ruled out most, and how close anything came to it."""
    if not ranked:
        return f"No trial was measured to its end: {why_rejected(evidence, evidence.judged[-1])}."
    decisive = ranked[0]
    judged = sum(1 for item in evidence.judged if item.findings)
    text = f"No trial meets every constraint; {decisive.excluded} of {judged} break {decisive.describe()}."
    if decisive.excluded < judged and len(ranked) > 1:
        text += f" {ranked[1].excluded} break {ranked[1].describe()}."
    if evidence.baseline and evidence.baseline.broken:
        text += f" The baseline itself breaks them: {why_rejected(evidence, evidence.baseline)}."
    return text


def baseline_best(evidence: Evidence) -> str:
    """Nothing beats the baseline: what came closest, or that there was nothing else."""
    baseline = evidence.baseline
    assert baseline is not None
    stays = f"The baseline stays, with {_figure(evidence, baseline)}"
    others = [item for item in evidence.judged if item.comparable and not item.trial.is_baseline]
    if others:
        closest = evidence.best(others)
        factor = times(evidence.compare(closest, baseline).ratio)
        return f"{stays}: nothing is better by more than {_least(evidence)}. Closest is {closest.label} at {factor}."
    tried = len(evidence.judged) - 1
    if not tried:
        return f"{stays}: nothing else was measured."
    return f"{stays}: none of the {tried} other trials meets the constraints."


def won(evidence: Evidence, winner: Judged, ratio: Estimate | None, *, confirmed: bool) -> str:
    """The winner, what it reaches, and what to know before relying on it."""
    text = f"{winner.label} has {_figure(evidence, winner)}"
    baseline, reference = evidence.baseline, evidence.reference
    if reference is not None and ratio is not None:
        how = ", measured alternately" if confirmed else ""
        whose = "the baseline" if reference.trial.is_baseline else reference.label
        text += f" against {whose}'s {_figure(evidence, reference)}: {times(ratio)}{how}"
    text += "."
    best = evidence.best([item for item in evidence.feasible if not item.trial.is_baseline])
    if best is not winner:
        text += f" {best.label} is not better by more than {_least(evidence)}, and less simple."
    if baseline is None:
        text += " The baseline was not measured, so there is no speed-up to give."
    elif baseline.trial.is_reference:
        text += _not_served(evidence, baseline, winner)
    elif not baseline.feasible:
        text += f" The baseline itself cannot be chosen: {why_rejected(evidence, baseline)}."
    close = [finding for finding in winner.findings if finding.marginal]
    if close:
        text += f" A close call: {close[0].sentence}."
    return text


def _not_served(evidence: Evidence, baseline: Judged, winner: Judged) -> str:
    """What is compared with what, where the baseline could not be served."""
    reference = evidence.reference
    speed = f"{reference.label}, the first that was served" if reference and reference is not winner else "nothing"
    accuracy = "its own, found without serving it" if baseline.trial.succeeded else "nothing, since that was not found"
    return (
        f" The baseline is not served here ({baseline.trial.proposal.note}): speed is compared with {speed}, accuracy "
        f"with {accuracy}."
    )


def not_confirmed(evidence: Evidence, winner: Judged, confirmation: Confirmation, seen: Estimate | None) -> str:
    was = f"; the search had seen {times(seen)}" if seen is not None else ""
    return (
        f"The baseline stays: measured alternately with it, {winner.label} reaches {times(confirmation.ratio)}, "
        f"which is not more than {_least(evidence)}{was}."
    )


def _figure(evidence: Evidence, item: Judged) -> str:
    key = evidence.objective.key
    value = measured(item.trial, key)
    return f"{key} {quantity(key, value)}" if value is not None else f"no {key}"


def _least(evidence: Evidence) -> str:
    percent = evidence.min_improvement_percent
    return f"the noise and {percent:g} %" if percent else "the noise"
