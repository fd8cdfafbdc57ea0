"""Candidates in their order, which is the prior's: the whole grid, the promising part first."""

from __future__ import annotations

from collections.abc import Sequence

from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy, untried


class Grid(Strategy):
    """The first candidate that has not been tried."""

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        left = untried(space, observations)
        if not left:
            return ALL_TRIED
        position = len(space.candidates) - len(left) + 1
        return Proposal(
            configuration=left[0],
            proposer=Proposer.GRID,
            reasoning=f"Number {position} of {len(space.candidates)} candidates, most promising first.",
        )
