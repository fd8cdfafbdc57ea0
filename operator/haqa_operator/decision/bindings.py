"""Which constraint stood in the way, and how close anything came to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haqa_operator.api.goals import Constraint
from haqa_operator.decision.constraints import Finding
from haqa_operator.decision.evidence import Evidence, Judged


@dataclass(frozen=True)
class Binding:
    """A constraint that ruled trials out.

    Attributes:
        excluded: Trials that break it.
        admits: Best score that dropping this constraint alone would let in; None when it would let nothing in.
        closest: The trial with a value that came nearest to the limit, and what it reached; None when none has one.
        sentence: Why the first of the excluded trials breaks it.
    """

    constraint: Constraint
    excluded: int
    admits: float | None
    closest: tuple[Judged, Finding] | None
    sentence: str

    def describe(self) -> str:
        """`perplexity at most 1 % worse than the baseline: closest is t-2 (W8A8-INT8/gptq) at +1.3 %`."""
        if self.closest is None:
            return f"{self.constraint.describe()}: {self.sentence}"
        judged, finding = self.closest
        return f"{self.constraint.describe()}: closest is {judged.label} at {finding.achieved}"


def bindings(evidence: Evidence) -> tuple[Binding, ...]:
    """The constraints that ruled out trials, the one that decided most first.

    That is the one that excludes most trials; of two that exclude as many, the one whose absence would let the better
    trial in; then the one that comes first in the spec.
    """
    constraints = dict.fromkeys(evidence.constraints)
    found = [binding for constraint in constraints if (binding := _binding(constraint, evidence.judged))]
    return tuple(sorted(found, key=lambda binding: (-binding.excluded, binding.admits is None, -(binding.admits or 0))))


def _binding(constraint: Constraint, judged: Sequence[Judged]) -> Binding | None:
    broken = [(item, finding) for item in judged for finding in item.broken if finding.constraint == constraint]
    if not broken:
        return None
    alone = [item.score for item, _ in broken if item.score is not None and len(item.broken) == 1]
    reached = [(item, finding) for item, finding in broken if finding.achieved]
    closest = min(reached, key=lambda pair: (pair[1].excess, pair[0].trial.number, pair[0].trial.name), default=None)
    return Binding(constraint, len(broken), max(alone, default=None), closest, broken[0][1].sentence)
