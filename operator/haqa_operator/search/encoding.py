"""Configurations as rows of numbers, for strategies that compute with them.

Parameters that all candidates have alike are left out. Numbers keep their order and their steps become equal (64, 256,
1024 -> 0, 1, 2); everything else is a category. A parameter that a configuration leaves out (the engine's default) is a
category too, so a dimension with such a gap has no order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, Scalar
from haqa_operator.search.space import SearchSpace

Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dimension:
    """One parameter that differs between candidates.

    Attributes:
        values: The values it takes, in order if there is one.
        ordered: Whether neighbours in `values` are alike.
    """

    name: str
    values: tuple[Scalar | None, ...]
    ordered: bool

    @cached_property
    def _index(self) -> dict[str, int]:
        # By repr: True and 1 are equal as dictionary keys and different as settings.
        return {repr(value): i for i, value in enumerate(self.values)}

    def index(self, configuration_parameters: dict[str, Scalar]) -> int | None:
        return self._index.get(repr(configuration_parameters.get(self.name)))


def dimensions_of(candidates: Sequence[Configuration]) -> tuple[Dimension, ...]:
    """The dimensions in which these candidates differ."""
    parameters = [candidate.parameters for candidate in candidates]
    names = dict.fromkeys(name for row in parameters for name in row)
    found = []
    for name in names:
        values = {repr(row.get(name)): row.get(name) for row in parameters}
        if len(values) > 1:
            found.append(_dimension(name, tuple(values.values())))
    return tuple(found)


def _dimension(name: str, values: tuple[Scalar | None, ...]) -> Dimension:
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return Dimension(name, tuple(sorted(numbers)), ordered=True)
    return Dimension(name, values, ordered=False)


def encode(configuration: Configuration, dimensions: Sequence[Dimension]) -> list[int] | None:
    """The configuration's row; None if it has a value that no candidate has."""
    parameters = configuration.parameters
    row = [dimension.index(parameters) for dimension in dimensions]
    return [i for i in row if i is not None] if None not in row else None


def encode_space(space: SearchSpace) -> tuple[tuple[Dimension, ...], Matrix]:
    """The space's dimensions and one row for each candidate."""
    dimensions = dimensions_of(space.candidates)
    rows = [encode(candidate, dimensions) for candidate in space.candidates]
    return dimensions, np.array(rows, dtype=np.int64).reshape(len(rows), len(dimensions))


def distances(rows: Matrix, row: Sequence[int], dimensions: Sequence[Dimension]) -> npt.NDArray[np.float64]:
    """How far each of the rows is from one: 1 for each category that differs, up to 1 for each ordered dimension."""
    if not dimensions:
        return np.zeros(len(rows))
    steps = np.abs(rows - np.array(row)).astype(np.float64)
    for column, dimension in enumerate(dimensions):
        if dimension.ordered:
            steps[:, column] /= max(1, len(dimension.values) - 1)
        else:
            steps[:, column] = steps[:, column] > 0
    return np.asarray(steps.sum(axis=1), dtype=np.float64)


def spread(rows: Matrix, dimensions: Sequence[Dimension]) -> npt.NDArray[np.float64]:
    """Mean distance of each row to all of them: least for the middle one. Linear in the number of rows."""
    total = np.zeros(len(rows))
    for column, dimension in enumerate(dimensions):
        counts = np.bincount(rows[:, column], minlength=len(dimension.values))
        places = np.arange(len(dimension.values))
        apart = np.abs(places[:, None] - places[None, :]).astype(np.float64)
        apart = apart / max(1, len(places) - 1) if dimension.ordered else (apart > 0).astype(np.float64)
        total += (apart @ counts)[rows[:, column]]
    return np.asarray(total / max(1, len(rows)), dtype=np.float64)
