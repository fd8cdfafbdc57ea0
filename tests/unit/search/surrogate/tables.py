"""Spaces whose results follow from a formula, for the surrogate's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.builders import make_baseline, make_trial

from haqa_contract import Configuration, FailureReason
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.trial import Trial
from haqa_operator.decision.goals import Goals
from haqa_operator.decision.observations import Observation, observations_of
from haqa_operator.search.space import SearchSpace

LOADS = (1, 2, 4, 8, 16, 32, 64)
ENGINES = ("slow", "fast")
LIMIT_MS = 400.0
GOALS = Goals(Objective(), (Constraint.model_validate({"metric": "e2e", "max": LIMIT_MS}),))

Truth = Callable[[Configuration], dict[str, float] | None]


def loads_space() -> SearchSpace:
    """Loads x engines; the baseline is the slow engine with few requests."""
    every = [Configuration.of(load=load, kind=kind) for kind in ENGINES for load in LOADS]
    baseline = Configuration.of(load=2, kind="slow")
    return SearchSpace(baseline, tuple(c for c in every if c != baseline), load_parameters=frozenset({"load"}))


def closed_loop(configuration: Configuration) -> dict[str, float]:
    """The throughput of a closed loop saturates, its latency grows; the fast engine is three times as fast."""
    load = float(configuration.settings["load"])
    speed = 3.0 if configuration.settings["kind"] == "fast" else 1.0
    throughput = speed * 100 * load / (1 + load / 8)
    return {"throughput": throughput, "e2e": 1000 * load * 10 / throughput}


def trial_of(number: int, configuration: Configuration, values: dict[str, float] | None) -> Trial:
    made = make_baseline() if number == 0 else make_trial(number)
    made = made.of(configuration)
    if values is None:
        return made.failed(FailureReason.ENGINE_LOAD_FAILED).obj()
    for name, value in values.items():
        made = made.metric(name, value, margin=0.02 * value)
    return made.obj()


def observe(trials: Sequence[Trial], goals: Goals = GOALS) -> list[Observation]:
    return observations_of(trials, [goals.objective], goals.constraints)


def first_trials(space: SearchSpace, truth: Truth, *picked: Configuration) -> list[Trial]:
    return [trial_of(n, c, truth(c)) for n, c in enumerate((space.baseline, *picked))]
