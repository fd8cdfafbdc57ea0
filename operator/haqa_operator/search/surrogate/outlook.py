"""What is expected of candidates: the objective, the chance that they keep every limit, what a trial of them is worth.

The worth of a trial is the expected gain over the best that is known to keep the limits (Jones, Schonlau and Welch,
1998), times the chance to keep them (Gardner et al., 2014), for an hour of the machine. While nothing keeps them, there
is nothing to gain over: then it is the chance itself that is sought first, and speed where chances are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from haqa_contract import Configuration
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import References
from haqa_operator.decision.goals import Goals
from haqa_operator.decision.limits import Limit, absolute_limits
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.surrogate.costs import hours_of
from haqa_operator.search.surrogate.models import MetricModel, relative
from haqa_operator.search.surrogate.priors import Expectation, expected
from haqa_operator.search.surrogate.rows import Rows
from haqa_operator.search.surrogate.running import chances_to_run

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outlook:
    """One entry for each candidate.

    Attributes:
        mean: Logarithm of the objective over the baseline's (or the first measured trial's), higher is better.
        deviation: Its standard deviation.
        chance: That it runs and keeps every limit, 0 to 1.
        hours: What a trial of it takes, in machine-hours.
        best: The best measured that keeps the limits, on the scale of `mean`; None while there is none.
        maximized: Whether the objective is; `percent` turns latencies round.
    """

    candidates: tuple[Configuration, ...]
    mean: Vector
    deviation: Vector
    chance: Vector
    hours: Vector
    best: float | None
    maximized: bool = True

    @property
    def gain(self) -> Vector:
        """Expected gain over the best, as a share of it (0.05 = 5 %), what breaks a limit or fails counting as none."""
        if self.best is None:
            return np.full(len(self.mean), np.inf)
        deviation = np.maximum(self.deviation, 1e-9)
        ahead = self.mean - self.best
        z = ahead / deviation
        improvement = np.exp(ahead + deviation**2 / 2) * norm.cdf(z + deviation) - norm.cdf(z)
        return np.asarray(np.maximum(improvement, 0.0) * self.chance)

    @property
    def worth(self) -> Vector:
        """By which candidates are ranked: the more the better, in no unit."""
        if self.best is None:
            return np.asarray(np.log(np.maximum(self.chance, 1e-12)) + self.mean)
        return np.asarray(self.gain / self.hours)

    def percent(self, position: int, deviations: float = 0.0) -> float:
        """The objective in percent of the baseline's, so many deviations above what is expected."""
        ratio = self.mean[position] + deviations * self.deviation[position]
        return float(100 * np.exp(ratio if self.maximized else -ratio))


def outlook(
    space: SearchSpace,
    rows: Rows,
    observations: Sequence[Observation],
    goals: Goals,
    candidates: Sequence[Configuration],
    history: Sequence[Sequence[Trial]] = (),
    expects: Expectation = expected,
) -> Outlook | None:
    """What is expected of candidates; None while no trial has the objective.

    Args:
        history: Trials of other tunings, each with its baseline.
        expects: What there is to expect before anything is measured.
    """

    def model(key: MetricKey) -> MetricModel | None:
        return MetricModel.fit(key, space, rows, trials, history, expects)

    trials = [observation.trial for observation in observations]
    objective = model(goals.objective.key)
    if objective is None:
        return None
    sign = 1.0 if goals.objective.maximize else -1.0
    mean, deviation = objective.predict(candidates)
    chance = chances_to_run(trials, candidates)
    for limit in absolute_limits(goals.constraints, References.among(trials)):
        chance = chance * _chance_to_keep(limit, model(limit.key), candidates)
    scores = [o.score for o in observations if o.score is not None and not o.violation]
    values = [relative(goals.objective.key, abs(score), objective.reference) * sign for score in scores]
    return Outlook(
        candidates=tuple(candidates),
        mean=sign * mean,
        deviation=deviation,
        chance=chance,
        hours=hours_of(trials, candidates),
        best=max(values, default=None),
        maximized=goals.objective.maximize,
    )


_UNMEASURED = 0.5
"""Chance to keep a limit on what no trial has measured yet."""


def _chance_to_keep(limit: Limit, model: MetricModel | None, candidates: Sequence[Configuration]) -> Vector:
    key: MetricKey = limit.key
    if model is None or (limit.minimum is None and limit.maximum is None):
        return np.full(len(candidates), _UNMEASURED)
    mean, deviation = model.predict(candidates)
    deviation = np.maximum(deviation, 1e-9)
    chance = np.ones(len(candidates))
    if limit.maximum is not None:
        chance = chance * norm.cdf((relative(key, limit.maximum, model.reference) - mean) / deviation)
    if limit.minimum is not None:
        chance = chance * norm.sf((relative(key, limit.minimum, model.reference) - mean) / deviation)
    return np.asarray(chance)
