"""Over random truths: what could still win is never closed for sure, and little is spent on what must fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_baseline, make_trial

from haqa_contract import Configuration, FailureReason, Scalar
from haqa_operator.api.goals import Constraint
from haqa_operator.api.trial import Trial
from haqa_operator.search.lessons.teaching import taught
from haqa_operator.search.space import SearchSpace

LIMIT = Constraint(metric="itl", percentile=95, max=50)
SCHEMES = ("W4A16", "W4A16-ASYM", "W8A8-INT8", "FP8-DYNAMIC")


def space_of(**engine: Sequence[Scalar]) -> SearchSpace:
    names = list(engine)
    engines = [dict(zip(names, values, strict=True)) for values in product(*engine.values())]
    candidates = tuple(Configuration.of(s, "rtn", None, **one) for s in SCHEMES for one in engines)
    load = frozenset({"load"}) & set(names)
    return SearchSpace(Configuration(), candidates, load_parameters=load)


SPACES = (
    space_of(x=("a", "b"), y=(True, False)),
    space_of(x=("a", "b", "c"), y=("p", "q"), z=(True, False)),
    space_of(x=("a", "b"), load=(1, 8, 64), max_num_seqs=(16, 64, 256)),
)


@dataclass(frozen=True)
class Truth:
    """What every trial of a space would come to.

    Attributes:
        bad: Values that no engine starts with, each with a message of its own.
        memory: What weights, `max-num-seqs` and `load` may take together.
        pace: Scheme -> milliseconds that a token takes without load.
        scores: What counts, all different.
    """

    bad: tuple[tuple[str, Scalar], ...]
    memory: float
    pace: dict[str, float]
    scores: dict[Configuration, float]

    def trial(self, number: int, configuration: Configuration) -> Trial:
        parameters, trial = configuration.parameters, make_trial(number).of(configuration)
        fault = next((one for one in self.bad if parameters.get(one[0]) == one[1]), None)
        if fault is not None:
            message = f"the engine ended with exit code 1: KeyError: '{'abcdefgh'[self.bad.index(fault)]}'"
            return trial.failed(FailureReason.ENGINE_LOAD_FAILED, message).obj()
        load, sequences = _number(parameters.get("load")), _number(parameters.get("max-num-seqs"))
        bits = {"W4A16": 4, "W4A16-ASYM": 4}.get(str(parameters["scheme"]), 8)
        if 10 * bits + load + sequences > self.memory:
            message = "the accelerator ran out of memory (it asked for more); lower gpu-memory-utilization"
            return trial.failed(FailureReason.ENGINE_OOM, message).obj()
        latency = self.pace[str(parameters["scheme"])] * (1 + load / 16)
        return trial.throughput(self.scores[configuration]).metric("itl.p95", latency).obj()

    def best(self, space: SearchSpace) -> Configuration | None:
        trials = [self.trial(1, candidate) for candidate in space.candidates]
        feasible = [t.configuration for t in trials if t.succeeded and t.status.metrics["itl.p95"].value <= 50]
        return max(feasible, key=lambda configuration: self.scores[configuration], default=None)


def _number(value: Scalar | None) -> float:
    return float(value or 0)


@st.composite
def truths(draw: st.DrawFn) -> tuple[SearchSpace, Truth]:
    space = draw(st.sampled_from(SPACES))
    faults = [
        (name, value)
        for name, values in space.dimensions().items()
        for value in values
        if len(values) > 1 and isinstance(value, (str, bool))
    ]
    bad = draw(st.lists(st.sampled_from(faults), max_size=2, unique=True))
    scores = draw(st.permutations(range(1, len(space.candidates) + 1)))
    return space, Truth(
        bad=tuple(bad),
        memory=draw(st.sampled_from((60, 120, 200, 400))),
        pace={scheme: draw(st.sampled_from((5.0, 20.0, 45.0, 60.0))) for scheme in SCHEMES},
        scores=dict(zip(space.candidates, map(float, scores), strict=True)),
    )


Pick = Callable[[list[Configuration], random.Random], Configuration]


def search(space: SearchSpace, truth: Truth, pick: Pick, seed: int) -> tuple[list[Trial], SearchSpace]:
    """Every trial there is to make, and what is closed at the end."""
    chance = random.Random(seed)
    trials = [make_baseline().throughput(1).metric("itl.p95", 10).obj()]
    while True:
        now = taught(space, trials, [LIMIT])
        left = list(now.open({trial.configuration for trial in trials}))
        if not left:
            return trials, now
        trials.append(truth.trial(len(trials), pick(left, chance)))


PICKS: dict[str, Pick] = {
    "in order": lambda left, chance: left[0],
    "by chance": lambda left, chance: chance.choice(left),
}


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS)
@settings(max_examples=25, deadline=None)
@given(case=truths(), seed=st.integers(0, 99))
def test_the_best_that_keeps_the_limits_is_tried_however_the_search_goes(
    pick: Pick, case: tuple[SearchSpace, Truth], seed: int
) -> None:
    space, truth = case
    trials, _ = search(space, truth, pick, seed)
    best = truth.best(space)
    assert best is None or best in {trial.configuration for trial in trials}


@settings(max_examples=25, deadline=None)
@given(case=truths(), seed=st.integers(0, 99), length=st.integers(1, 12))
def test_what_could_win_is_never_closed_for_sure_whatever_was_tried(
    case: tuple[SearchSpace, Truth], seed: int, length: int
) -> None:
    space, truth = case
    tried = random.Random(seed).sample(space.candidates, min(length, len(space.candidates)))
    trials = [make_baseline().throughput(1).metric("itl.p95", 10).obj()]
    trials += [truth.trial(number, configuration) for number, configuration in enumerate(tried, 1)]
    now, best = taught(space, trials, [LIMIT]), truth.best(space)
    why = now.closed.get(best) if best is not None else None
    assert why is None or "most likely" in why or "same kernels" in why


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_one_value_that_never_works_costs_three_trials_at_most(pick: Pick, data: st.DataObject, seed: int) -> None:
    space, truth = data.draw(truths())
    truth = replace(truth, bad=truth.bad[:1], memory=1e9, pace=dict.fromkeys(SCHEMES, 1.0))
    trials, _ = search(space, truth, pick, seed)
    assert sum(not trial.succeeded for trial in trials) <= 3


@settings(max_examples=25, deadline=None)
@given(case=truths(), seed=st.integers(0, 99), length=st.integers(1, 12))
def test_lessons_add_up_to_what_is_closed(case: tuple[SearchSpace, Truth], seed: int, length: int) -> None:
    space, truth = case
    tried = random.Random(seed).sample(space.candidates, min(length, len(space.candidates)))
    trials = [truth.trial(number, configuration) for number, configuration in enumerate(tried, 1)]
    now = taught(space, trials, [LIMIT])
    assert sum(lesson.configurations for lesson in now.lessons) == len(now.closed)
    assert not set(tried) & set(now.closed)
    assert {lesson.trial for lesson in now.lessons} <= {trial.number for trial in trials}
    assert taught(space, list(reversed(trials)), [LIMIT]) == now
