"""A pool's finished trials, judged once, for everything that decides or explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haqa_contract import FailureReason
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial
from haqa_operator.decision.comparison import Comparison, compare
from haqa_operator.decision.constraints import Finding, References, judge_trial
from haqa_operator.decision.observations import score
from haqa_operator.decision.simplicity import SimplicityKey, simplicity


@dataclass(frozen=True)
class Judged:
    """A finished trial with what the constraints say of it.

    Attributes:
        score: The objective, higher is better; None when the trial has no usable value.
    """

    trial: Trial
    score: float | None
    findings: tuple[Finding, ...]

    @property
    def comparable(self) -> bool:
        """It has a value and breaks no limit, as far as it was measured."""
        return self.score is not None and all(finding.met for finding in self.findings)

    @property
    def feasible(self) -> bool:
        """It may be the answer."""
        return self.comparable and not self.trial.status.ended_early

    @property
    def broken(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.met)

    @property
    def label(self) -> str:
        return f"{self.trial.name} ({self.trial.configuration.describe()})"


@dataclass(frozen=True)
class Evidence:
    """What is known of a pool, in an order that does not depend on the order of the trials given.

    Attributes:
        judged: Finished trials by number.
        references: What they were judged against.
        baseline: The baseline among them, whether it succeeded or not; None when it has not finished.
        reference: What speed is compared with: the baseline, or where it was not served the first trial that was.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    min_improvement_percent: float
    judged: tuple[Judged, ...]
    references: References
    baseline: Judged | None
    reference: Judged | None

    @property
    def objective(self) -> Objective:
        return self.objectives[0]

    @property
    def feasible(self) -> tuple[Judged, ...]:
        return tuple(item for item in self.judged if item.feasible)

    @property
    def conclusive(self) -> bool:
        """Whether any trial came far enough to be compared, or to be ruled out by a constraint."""
        return any(item.score is not None or item.broken for item in self.judged)

    def against(self, key: MetricKey) -> Trial | None:
        """What a metric is compared with; None where nothing has succeeded that it could be."""
        found = self.references.of(key)
        return found if found is not None and found.succeeded else None

    @property
    def too_fast(self) -> Judged | None:
        """A trial whose engine was faster than the load generator: whatever it would have shown is missing."""
        return next((item for item in self.judged if failed_too_fast(item.trial)), None)

    def compare(self, first: Judged, second: Judged) -> Comparison:
        return compare(first.trial, second.trial, self.objective, self.min_improvement_percent)

    def simplicity(self, item: Judged) -> SimplicityKey:
        reference = self.baseline.trial.configuration if self.baseline else None
        return simplicity(item.trial, reference, item.score or 0.0)

    def best(self, items: Sequence[Judged]) -> Judged:
        """The best point estimate; of equal ones the simplest, so that the choice is one whatever their order."""
        return min(items, key=lambda item: (-(item.score or 0.0), self.simplicity(item)))


def failed_too_fast(trial: Trial) -> bool:
    """Whether the load generator was the limit of what was measured, with all the CPUs that it has."""
    failure = trial.status.failure
    return failure is not None and failure.reason is FailureReason.LOAD_GENERATOR_LIMIT


def gather(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    min_improvement_percent: float,
) -> Evidence:
    """Judges every finished trial; unfinished ones are left out."""
    finished = sorted((t for t in trials if t.status.phase.finished), key=lambda t: (t.number, t.name))
    references = References.among(finished)
    judged = tuple(Judged(t, score(t, objectives[0]), judge_trial(constraints, t, references)) for t in finished)
    baseline, reference = (
        next((item for item in judged if item.trial is wanted), None)
        for wanted in (references.baseline, references.speed)
    )
    return Evidence(
        tuple(objectives), tuple(constraints), min_improvement_percent, judged, references, baseline, reference
    )
