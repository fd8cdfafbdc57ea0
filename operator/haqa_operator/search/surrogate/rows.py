"""The rows of a whole space, worked out once: strategies look at the same candidates at every proposal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from cachetools import LRUCache, cached

from haqa_contract import Configuration
from haqa_operator.search.space import MOST_REMEMBERED, SearchSpace
from haqa_operator.search.surrogate.features import Features, Matrix, features_of

_REMEMBERED = 6
"""Results for the last lists of configurations that were asked for."""


@dataclass(frozen=True)
class Rows:
    """The features of a space and what they are for each of its candidates.

    Attributes:
        matrix: One row for each candidate, in the order of the space.
    """

    features: Features
    matrix: Matrix
    positions: Mapping[Configuration, int]
    _last: deque[tuple[object, Sequence[Configuration], Matrix]] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED), compare=False
    )

    def of(self, configurations: Sequence[Configuration]) -> Matrix:
        """One row for each configuration, of this space or another."""
        return self._once(self.matrix, configurations, self._rows)

    def logarithms(self, factors: Mapping[Configuration, float], configurations: Sequence[Configuration]) -> Matrix:
        """Of each configuration's factor; 0 where it has none."""
        return self._once(factors, configurations, lambda asked: np.log([factors.get(c, 1.0) for c in asked]))

    def _once(
        self, what: object, configurations: Sequence[Configuration], made: Callable[[Sequence[Configuration]], Matrix]
    ) -> Matrix:
        """A proposal asks for the same candidates once for each metric; looking up thousands takes milliseconds."""
        for kind, asked, known in tuple(self._last):
            if kind is what and asked is configurations:
                return known
        found = made(configurations)
        if len(configurations) > 1:
            self._last.append((what, configurations, found))
        return found

    def _rows(self, configurations: Sequence[Configuration]) -> Matrix:
        positions = [self.positions.get(configuration, -1) for configuration in configurations]
        rows = self.matrix[positions]
        strangers = [i for i, position in enumerate(positions) if position < 0]
        if strangers:
            rows[strangers] = self.features.rows([configurations[i] for i in strangers])
        return rows


@cached(
    LRUCache(MOST_REMEMBERED, getsizeof=lambda rows: 1 + len(rows.positions)),
    key=lambda space: (space.index, space.baseline),
    lock=Lock(),
)
def rows_of(space: SearchSpace) -> Rows:
    """The same for a space and for all that is made of it by closing candidates."""
    features = features_of(space)
    matrix = features.rows(space.candidates)
    if not len(space.candidates):
        matrix = np.empty((1, len(features.names)))
    return Rows(features, matrix, space.index.positions)
