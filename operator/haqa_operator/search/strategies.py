"""The one thing a search strategy does: say what to try next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from haqa_contract import Configuration
from haqa_operator.api.trial import Proposal
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace


class Strategy(ABC):
    """Picks the next configuration.

    Strategies hold no state between calls: what they propose follows from the space, the observations and the seed,
    so that a restart goes on as if nothing had happened.
    """

    @abstractmethod
    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | None:
        """A candidate that has not been tried yet, or None when all have been.

        Args:
            space: The candidates.
            observations: Finished trials in their order, the baseline among them.
        """


def untried(space: SearchSpace, observations: Sequence[Observation]) -> list[Configuration]:
    """Candidates that no observation is of, in the space's order."""
    tried = {observation.trial.configuration for observation in observations}
    return [candidate for candidate in space.candidates if candidate not in tried]
