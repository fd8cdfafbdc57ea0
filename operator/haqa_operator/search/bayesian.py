"""Bayesian search: what the surrogate expects of every candidate, and the trial that promises most for its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from haqa_contract import Configuration
from haqa_operator.api.search_spec import Patience
from haqa_operator.api.trial import Proposal, Proposer, Trial
from haqa_operator.decision.goals import Goals
from haqa_operator.decision.observations import Observation
from haqa_operator.search.patience import ended
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy
from haqa_operator.search.surrogate.outlook import Outlook, outlook
from haqa_operator.search.surrogate.priors import Expectation, expected
from haqa_operator.search.surrogate.rows import rows_of
from haqa_operator.search.surrogate.screening import screened


@dataclass(frozen=True)
class Bayesian(Strategy):
    """The candidate of most expected gain per machine-hour, by one model for each metric.

    Attributes:
        history: Trials of other tunings, each with its baseline: like models, or the same one on other hardware.
        patience: When it stops; None = never.
        expects: What there is to expect before anything is measured.
    """

    goals: Goals
    history: tuple[tuple[Trial, ...], ...] = ()
    patience: Patience | None = None
    expects: Expectation = expected

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        seen = self.outlook(space, observations)
        if seen is None:
            return self._first(space, observations)
        if self.patience is not None and (stop := ended(seen, observations, self.patience)) is not None:
            return stop
        return proposal_of(seen, int(np.argmax(seen.worth)), Proposer.BAYESIAN)

    def outlook(
        self, space: SearchSpace, observations: Sequence[Observation], also: Sequence[Configuration] = ()
    ) -> Outlook | None:
        """What is expected of the most promising open candidates and of `also`; None where nothing can be said."""
        candidates = screened(space, observations, also)
        if not candidates:
            return None
        with threadpool_limits(1):  # matrices of a few hundred rows: threads would only wait for each other
            return outlook(space, rows_of(space), observations, self.goals, candidates, self.history, self.expects)

    @staticmethod
    def _first(space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        """Before anything is measured the order of the space is all there is: most promising first."""
        first = next(space.open({o.trial.configuration for o in observations}), None)
        if first is None:
            return ALL_TRIED
        return Proposal(
            configuration=first,
            proposer=Proposer.BAYESIAN,
            reasoning="The most promising candidate by what is known of the hardware; nothing is measured yet.",
        )


def proposal_of(seen: Outlook, position: int, proposer: Proposer) -> Proposal:
    """The candidate with what is expected of it."""
    low, high = sorted((seen.percent(position, -1.96), seen.percent(position, 1.96)))
    middle, chance = seen.percent(position), float(seen.chance[position])
    reasoning = (
        f"Expected at {middle:.0f} % of the baseline ({low:.0f} to {high:.0f} %), {100 * chance:.0f} % likely to keep "
        f"every limit; "
    )
    if seen.best is None:
        reasoning += "nothing measured keeps them yet, so the chance to comes first."
    else:
        reasoning += f"expected gain over the best so far {100 * float(seen.gain[position]):.2g} %."
    return Proposal(
        configuration=seen.candidates[position],
        proposer=proposer,
        reasoning=reasoning,
        expected_percent=round(middle, 1),
        expected_low_percent=round(low, 1),
        expected_high_percent=round(high, 1),
        feasible_chance=round(chance, 3),
    )
