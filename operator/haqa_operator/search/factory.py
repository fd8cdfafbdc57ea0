"""The strategy that a tuning names."""

from __future__ import annotations

from haqa_operator.api.search_spec import Patience, SearchStrategy
from haqa_operator.api.trial import Trial
from haqa_operator.decision.goals import Goals
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.grid import Grid
from haqa_operator.search.random_search import RandomSearch
from haqa_operator.search.strategies import Strategy
from haqa_operator.search.tpe import TreeParzen


def make_strategy(
    name: SearchStrategy,
    seed: int,
    goals: Goals | None = None,
    history: tuple[tuple[Trial, ...], ...] = (),
    patience: Patience | None = None,
) -> Strategy:
    """A strategy that needs no LLM.

    `haqa` and `agent` give `bayesian`: what proposes where no agent is configured, and what the agent falls back to.

    Args:
        history: Trials of other tunings, each with its baseline; only `bayesian` learns from them.
        patience: When `bayesian` stops by itself; None = never.
    """
    match name:
        case SearchStrategy.RANDOM:
            return RandomSearch(seed)
        case SearchStrategy.GRID:
            return Grid()
        case SearchStrategy.TPE:
            return TreeParzen(seed)
        case SearchStrategy.BAYESIAN | SearchStrategy.AGENT | SearchStrategy.HAQA:
            return Bayesian(goals or Goals(), history, patience)
