"""Candidates in random order: what every other strategy has to beat."""

from __future__ import annotations

import random
from collections.abc import Sequence

from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy, untried


class RandomSearch(Strategy):
    """Every untried candidate is as likely as any other."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        left = untried(space, observations)
        if not left:
            return ALL_TRIED
        chance = random.Random(f"{self.seed}/{len(observations)}")  # noqa: S311, nothing secret depends on it
        return Proposal(
            configuration=chance.choice(left),
            proposer=Proposer.RANDOM,
            reasoning=f"One of {len(left)} untried configurations, by chance (seed {self.seed}).",
        )
