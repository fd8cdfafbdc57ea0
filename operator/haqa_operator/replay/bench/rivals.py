"""Strategies by name, as `haqa bench search --strategy` takes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from haqa_operator.agent.advice import Adviser
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.credentials import EnvironmentCredentials
from haqa_operator.agent.haqa import Haqa
from haqa_operator.agent.messages import LanguageModel
from haqa_operator.agent.strategy import AgentStrategy
from haqa_operator.api.search_spec import AgentSpec, Patience, SearchStrategy
from haqa_operator.decision.goals import Goals
from haqa_operator.replay.bench.ablations import OneModel, nothing_expected
from haqa_operator.replay.bench.expert import ExpertRule
from haqa_operator.replay.bench.problems import Problem
from haqa_operator.replay.bench.runs import Closing
from haqa_operator.replay.bench.scripted import Part, scripted_model
from haqa_operator.replay.context import table_context
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.factory import make_strategy
from haqa_operator.search.lessons.teaching import taught
from haqa_operator.search.strategies import Strategy

SCRIPTED = "scripted:"
WITH_AGENT = (SearchStrategy.HAQA.value, SearchStrategy.AGENT.value)
"""Strategies that ask an agent, where there is one."""

OWN = (*WITH_AGENT, SearchStrategy.BAYESIAN.value)
"""HAQA's own, for which trials rule out what must fail alike."""

UNTAUGHT = "-untaught"
"""Behind the name of one of HAQA's own: without that."""

WARM = "-warm"
"""Behind the name of one of HAQA's own: starting from other tunings (`histories`)."""

FULL = "-full"
"""Behind the name of one of HAQA's own: every load test is carried to its end (where the table says what one takes)."""

UNPRIMED = "-unprimed"
"""Behind `bayesian`: nothing is expected before it is measured."""

SINGLE = "-single"
"""Behind `bayesian`: one model of the objective alone, in which breaking a limit is the worst value seen."""

EXTRA = {
    "optuna-gp": ("rival_optuna", "OptunaGP", "torch"),
    "botorch": ("rival_botorch", "BoTorch", "botorch"),
    "smac": ("rival_smac", "Smac", "smac"),
}
"""Name -> module here, class in it, and the package by which the extra is known to be installed."""

EXPERT = "expert"

_SUFFIXES = (UNTAUGHT, WARM, FULL, UNPRIMED, SINGLE)


class RivalError(Exception):
    """A strategy that is not known or not installed; the message says what to do."""


def names() -> tuple[str, ...]:
    own = [name + suffix for name in OWN for suffix in (UNTAUGHT, WARM, FULL)]
    bayesian = [SearchStrategy.BAYESIAN.value + suffix for suffix in (UNPRIMED, SINGLE)]
    return (*(strategy.value for strategy in SearchStrategy), *own, *bayesian, EXPERT, *EXTRA)


def plain(name: str) -> str:
    """The strategy's name without what it is ablated by."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def check(name: str, agent: str | None) -> None:
    """That a strategy can be made, before any is run.

    Raises:
        RivalError: saying which there are, or what to install.
    """
    if name not in names():
        raise RivalError(f"--strategy {name}: no such strategy; there are {', '.join(names())}")
    if name in EXTRA and find_spec(EXTRA[name][2]) is None:
        raise RivalError(
            f"--strategy {name} needs {EXTRA[name][2]}, which is not installed: pip install 'haqa[operator,bench]'"
        )
    if plain(name) == SearchStrategy.AGENT and agent is None:
        raise RivalError(f"--strategy agent needs --agent: {SCRIPTED}{'|'.join(Part)}, or the name of a model")
    if agent is not None and agent.startswith(SCRIPTED) and agent.removeprefix(SCRIPTED) not in list(Part):
        raise RivalError(f"--agent {agent}: no such script; there are {', '.join(SCRIPTED + part for part in Part)}")


def make(
    name: str, problem: Problem, seed: int, agent: str | None = None, patience: Patience = Patience.UNLIMITED
) -> Strategy:
    """A strategy for one search of one problem.

    Args:
        agent: `scripted:right` and the like, or litellm's name of a model; for strategies that ask one.
        patience: Of HAQA's own; unlimited = they stop when nothing is left.
    """
    goals = Goals(problem.objective, problem.constraints)
    if name.endswith(UNPRIMED):
        return Bayesian(goals, expects=nothing_expected)
    if name.endswith(SINGLE):
        return OneModel(goals)
    history = problem.history if name.endswith(WARM) else ()
    name = plain(name)
    if name == EXPERT:
        return ExpertRule(problem.constraints)
    if name in EXTRA:
        module, kind, _ = EXTRA[name]
        made: Callable[[int], Strategy] = getattr(import_module(f"haqa_operator.replay.bench.{module}"), kind)
        return made(seed)
    waits = None if patience is Patience.UNLIMITED else patience
    without = make_strategy(SearchStrategy(name), seed, goals, history, waits)
    if agent is None or name not in WITH_AGENT:
        return without
    context = table_context(problem.table, problem.spec)
    model = _model(agent, problem, seed)
    if name == SearchStrategy.HAQA and isinstance(without, Bayesian):
        return Haqa(Adviser(model, lambda: context), without)
    return AgentStrategy(model, lambda: context, without)


def closing(name: str, problem: Problem) -> Closing | None:
    """What trials rule out for a strategy; None for rivals, which learn for themselves."""
    if plain(name) not in OWN or name.endswith(UNTAUGHT):
        return None
    return lambda space, trials: taught(space, trials, problem.constraints)


def ends_early(name: str) -> bool:
    """Whether load tests of trials that clearly cannot win are ended early; those of rivals never are."""
    return plain(name) in OWN and not name.endswith(FULL)


def _model(agent: str, problem: Problem, seed: int) -> LanguageModel:
    if agent.startswith(SCRIPTED):
        return scripted_model(Part(agent.removeprefix(SCRIPTED)), problem, seed)
    key = EnvironmentCredentials(os.environ).api_key(None)
    return LLMClient(AgentSpec(model=agent), api_key=key, confined=False, seed=seed)
