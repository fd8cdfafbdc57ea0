"""What was tuned before: for benchmarks of strategies that start from other tunings.

For a problem these are problems of the development half and the same source whose accelerator or model is another, each
with its baseline and a few of its configurations at random, as a tuning that somebody made would have left them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from haqa_operator.api.trial import Trial
from haqa_operator.replay.bench.problems import Half, Problem

TUNINGS = 18
TRIALS = 7
"""Beside the baseline, of each."""


def with_history(problems: Sequence[Problem], everything: Sequence[Problem]) -> list[Problem]:
    """The problems, each with what was tuned before it.

    Args:
        everything: All problems of the tables, of both halves.
    """
    return [replace(problem, history=_history(problem, everything)) for problem in problems]


def _history(problem: Problem, everything: Sequence[Problem]) -> tuple[tuple[Trial, ...], ...]:
    others = [
        other
        for other in everything
        if other.half is Half.DEVELOPMENT and other.source == problem.source and other.family != problem.family
    ]
    chance = random.Random(problem.name)  # noqa: S311, nothing secret depends on it
    return tuple(_tuning(other, chance) for other in chance.sample(others, min(TUNINGS, len(others))))


def _tuning(problem: Problem, chance: random.Random) -> tuple[Trial, ...]:
    trials = [seen.trial for seen in problem.truth.values()]
    others = [trial for trial in trials if not trial.is_baseline]
    picked = chance.sample(others, min(TRIALS, len(others)))
    return (*(trial for trial in trials if trial.is_baseline), *picked)
