"""The one thing a search strategy does: say what to try next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration
from haqa_operator.api.trial import Proposal
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace


@dataclass(frozen=True)
class Stop:
    """Nothing more is proposed.

    Attributes:
        sentence: Why, for people.
    """

    sentence: str


ALL_TRIED = Stop("every feasible configuration has been tried")


class Strategy(ABC):
    """Picks the next configuration.

    Strategies hold no state between calls: what they propose follows from the space, the observations and the seed,
    so that a restart goes on as if nothing had happened.
    """

    @abstractmethod
    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        """A candidate that is open, or why there is nothing to propose.

        Args:
            space: The candidates.
            observations: Finished trials in their order, the baseline among them.
        """


def open_positions(space: SearchSpace, observations: Sequence[Observation]) -> npt.NDArray[np.int64]:
    """Where the open candidates that no observation is of stand in the space."""
    return np.flatnonzero(space.open_mask({observation.trial.configuration for observation in observations}))


def untried(space: SearchSpace, observations: Sequence[Observation]) -> list[Configuration]:
    """Candidates that are open and that no observation is of, in the space's order."""
    return list(space.open({observation.trial.configuration for observation in observations}))
