"""Constraints in absolute numbers: one relative to the baseline becomes one once the baseline is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import MetricKey, higher_is_better
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import References, measured
from haqa_operator.metrics.quantities import quantity


@dataclass(frozen=True)
class Limit:
    """A constraint in absolute numbers; neither bound where the baseline that it is relative to is missing."""

    constraint: Constraint
    minimum: float | None = None
    maximum: float | None = None

    @property
    def key(self) -> MetricKey:
        return self.constraint.key

    def describe(self) -> str:
        bounds = [f"at least {quantity(self.key, self.minimum)}"] if self.minimum is not None else []
        bounds += [f"at most {quantity(self.key, self.maximum)}"] if self.maximum is not None else []
        return f"{self.key} {' and '.join(bounds)}" if bounds else self.constraint.describe()

    def slack(self, value: float) -> float:
        """Room to the nearer bound as a share of it: 0.1 = 10 % to spare, -0.2 = 20 % beyond the limit."""
        rooms = [(value - self.minimum, self.minimum)] if self.minimum is not None else []
        rooms += [(self.maximum - value, self.maximum)] if self.maximum is not None else []
        return min((room / abs(bound) if bound else room for room, bound in rooms), default=0.0)


def absolute_limits(constraints: Sequence[Constraint], references: References) -> tuple[Limit, ...]:
    """The constraints in absolute numbers, in their order."""
    return tuple(_limit(constraint, references.of(constraint.key)) for constraint in constraints)


def _limit(constraint: Constraint, against: Trial | None) -> Limit:
    if constraint.max_degradation_percent is None:
        return Limit(constraint, constraint.min, constraint.max)
    reference = measured(against, constraint.key) if against else None
    higher = higher_is_better(constraint.metric)
    if reference is None or higher is None:
        return Limit(constraint)
    allowed = abs(reference) * constraint.max_degradation_percent / 100
    return Limit(constraint, minimum=reference - allowed) if higher else Limit(constraint, maximum=reference + allowed)
