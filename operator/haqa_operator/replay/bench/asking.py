"""Optimizers of other people's making that ask for points of a space of categories and numbers.

They search the whole product of the values; only the combinations that a table has can be tried. What they ask for is
therefore answered with the nearest candidate that is open, as for HAQA's own `tpe`. Until enough is known, candidates
are taken at random, as these optimizers do by themselves.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.encoding import Dimension, Matrix, distances, encode, encode_space
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy, open_positions

STARTUP = 4
"""Trials at random before a model of the space means anything."""


@dataclass(frozen=True)
class Told:
    """What an optimizer is told of one trial.

    Attributes:
        row: Values as positions in the dimensions.
        score: The objective, higher is better; that of the worst trial for one that failed.
        violation: 0 = keeps all limits; one more than the worst for a trial that failed.
    """

    row: tuple[int, ...]
    score: float
    violation: float


class Asking(Strategy):
    """Asks an optimizer for a point and proposes the nearest open candidate."""

    name = ""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        free = open_positions(space, observations)
        if not len(free):
            return ALL_TRIED
        dimensions, rows = encode_space(space)
        told = told_of(observations, dimensions)
        if len(told) < STARTUP or not dimensions:
            chance = random.Random(f"{self.name} {self.seed} {len(observations)}")  # noqa: S311, nothing secret
            pick, why = int(chance.choice(free)), "at random, until there is something to learn from"
        else:
            pick, why = self.ask(dimensions, rows, free, told), f"what {self.name} asks for"
        return Proposal(configuration=space.candidates[pick], proposer=Proposer.USER, reasoning=why)

    @abstractmethod
    def ask(self, dimensions: Sequence[Dimension], rows: Matrix, free: Matrix, told: Sequence[Told]) -> int:
        """The number of the candidate to try next, one of `free`."""


def nearest(rows: Matrix, free: Matrix, point: Sequence[int], dimensions: Sequence[Dimension]) -> int:
    return int(free[int(np.argmin(distances(rows[free], point, dimensions)))])


def told_of(observations: Sequence[Observation], dimensions: Sequence[Dimension]) -> list[Told]:
    """Trials that lie in the space, failures as the worst of them."""
    scores = [o.score for o in observations if o.score is not None]
    violations = [o.violation for o in observations if math.isfinite(o.violation)]
    worst_score, worst_violation = min(scores, default=0.0), max(violations, default=0.0) + 1
    told = []
    for o in observations:
        row = encode(o.trial.configuration, dimensions)
        if row is not None:
            violation = o.violation if math.isfinite(o.violation) else worst_violation
            told.append(Told(tuple(row), worst_score if o.score is None else o.score, violation))
    return told


def features(rows: Matrix, dimensions: Sequence[Dimension]) -> np.ndarray:
    """Numbers from 0 to 1: ordered dimensions by their place, categories one-hot."""
    columns = []
    for i, dimension in enumerate(dimensions):
        count = len(dimension.values)
        if dimension.ordered:
            columns.append(rows[:, [i]] / max(1, count - 1))
        else:
            columns.append(np.eye(count)[rows[:, i]])
    return np.concatenate(columns, axis=1).astype(np.float64)
