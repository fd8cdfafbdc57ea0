"""HAQA's own search without one of its parts, to see what that part is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, Estimate
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Proposal, TrialPhase
from haqa_operator.decision.goals import Goals
from haqa_operator.decision.observations import Observation
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Stop, Strategy
from haqa_operator.search.surrogate.rows import Rows


def nothing_expected(
    key: MetricKey, space: SearchSpace, rows: Rows, configurations: Sequence[Configuration]
) -> npt.NDArray[np.float64]:
    """Everything as good as the baseline, before it is measured."""
    return np.zeros(len(configurations))


@dataclass(frozen=True)
class OneModel(Strategy):
    """One model of the objective alone, what fails or breaks a limit counting as the worst that was seen: what is
    usually done with an optimizer that knows no limits."""

    goals: Goals

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        scores = [o.score for o in observations if o.score is not None]
        if not scores:
            return Bayesian(self.goals).propose(space, observations)
        alone = Goals(self.goals.objective)
        return Bayesian(alone).propose(space, [self._told(o, min(scores)) for o in observations])

    def _told(self, seen: Observation, worst: float) -> Observation:
        score = worst if seen.score is None or seen.violation else seen.score
        key, trial = str(self.goals.objective.key), seen.trial
        value = abs(score)
        estimate = Estimate(value=value, low=value, high=value, n=1)
        update = {"phase": TrialPhase.SUCCEEDED, "failure": None, "metrics": {key: estimate}, "samples": {}}
        told = trial.model_copy(update={"status": trial.status.model_copy(update=update)})
        return Observation(told, score, 0.0)
