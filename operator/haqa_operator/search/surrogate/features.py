"""Configurations as rows of numbers that mean something: what the surrogate compares them by.

Numbers are taken by their logarithm, since twice as many requests, accelerators or tokens a batch change a rate by
about the same factor wherever one starts, and relative to the baseline, which is where everything is known. What has no
order (a scheme, a backend, a setting that some candidates leave to the engine) is a category. A scheme is two numbers
beside its name, the bits of a weight and of an activation, so that one four-bit scheme says something of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, Scalar, Scheme
from haqa_operator.search.number_formats import FORMATS
from haqa_operator.search.space import SearchSpace

Matrix = npt.NDArray[np.float64]

WEIGHT_BITS = "weight bits"
ACTIVATION_BITS = "activation bits"

_UNKNOWN = -1.0
"""Code of a value that only another tuning's configurations have."""


@dataclass(frozen=True)
class Features:
    """The columns that a configuration becomes, in the order of `names`.

    Attributes:
        numbers: Parameters that are numbers everywhere in the space, and what the scheme comes to.
        categories: The other parameters -> the code of each value, by its repr (True and 1 are different settings).
        origin: The baseline's row of numbers.
    """

    numbers: tuple[str, ...]
    categories: Mapping[str, Mapping[str, int]]
    origin: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.numbers, *self.categories)

    def rows(self, configurations: Sequence[Configuration]) -> Matrix:
        """One row for each configuration, also of another space: what that has beyond this one is left out."""
        rows = np.empty((len(configurations), len(self.names)))
        for row, configuration in zip(rows, configurations, strict=True):
            values = _values(configuration)
            for column, name in enumerate(self.numbers):
                number = _number(values.get(name))
                row[column] = 0.0 if number is None else number - self.origin[column]
            for column, (name, codes) in enumerate(self.categories.items(), start=len(self.numbers)):
                row[column] = codes.get(repr(values.get(name)), _UNKNOWN)
        return rows


def features_of(space: SearchSpace) -> Features:
    """The parameters in which the space's configurations differ, the baseline among them."""
    values: dict[str, dict[str, Scalar | None]] = {}
    everybody = [_values(configuration) for configuration in (space.baseline, *space.candidates)]
    names = dict.fromkeys(name for row in everybody for name in row)
    for row in everybody:
        for name in names:
            value = row.get(name)
            values.setdefault(name, {})[repr(value)] = value
    varying = {name: found for name, found in values.items() if len(found) > 1}
    numbers = tuple(name for name, found in varying.items() if _ordered(found.values()))
    origin = _values(space.baseline)
    return Features(
        numbers=numbers,
        categories={
            name: {text: code for code, text in enumerate(found)}
            for name, found in varying.items()
            if name not in numbers
        },
        origin=tuple(_number(origin.get(name)) or 0.0 for name in numbers),
    )


def _values(configuration: Configuration) -> dict[str, Scalar]:
    parameters = configuration.parameters
    if parameters["scheme"] in _SCHEMES:
        shape = FORMATS[Scheme(parameters["scheme"])]
        return {**parameters, WEIGHT_BITS: shape.weight_bits, ACTIVATION_BITS: shape.activation_bits}
    return parameters


_SCHEMES = frozenset(scheme.value for scheme in Scheme)


def _ordered(values: Iterable[Scalar | None]) -> bool:
    return all(_number(value) is not None for value in values)


def _number(value: Scalar | None) -> float | None:
    """The logarithm of a number above 0."""
    return log2(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None
