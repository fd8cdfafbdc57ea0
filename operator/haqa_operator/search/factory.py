"""The strategy that a tuning names."""

from __future__ import annotations

from haqa_operator.api.search_spec import SearchStrategy
from haqa_operator.search.grid import Grid
from haqa_operator.search.random_search import RandomSearch
from haqa_operator.search.strategies import Strategy
from haqa_operator.search.tpe import TreeParzen


def make_strategy(name: SearchStrategy, seed: int) -> Strategy:
    """A strategy that needs no LLM.

    `haqa` and `agent` give `bayesian`: what proposes where no agent is configured, and what the agent falls back to.
    """
    match name:
        case SearchStrategy.RANDOM:
            return RandomSearch(seed)
        case SearchStrategy.GRID:
            return Grid()
        case SearchStrategy.TPE:
            return TreeParzen(seed)
        case SearchStrategy.BAYESIAN | SearchStrategy.AGENT | SearchStrategy.HAQA:
            return TreeParzen(seed)
