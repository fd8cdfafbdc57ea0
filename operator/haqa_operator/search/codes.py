"""Candidates as rows of small integers, so that questions about all of them at once are arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, Scalar

Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

UNKNOWN = -1
"""The code of a value that no candidate has."""


@dataclass(frozen=True, eq=False)
class Codes:
    """One row for each candidate, one column for each parameter; equal values have equal codes.

    Attributes:
        names: Parameter names, the columns.
        values: For each column its values by code; None where a candidate leaves the parameter out.
        rows: Codes, candidates x columns.
    """

    names: tuple[str, ...]
    values: tuple[tuple[Scalar | None, ...], ...]
    rows: Ints
    _groups: dict[tuple[int, ...], _Groups] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, candidates: Sequence[Configuration]) -> Codes:
        columns: dict[str, Ints] = {}
        codes: dict[str, dict[tuple[type, Scalar | None], int]] = {}
        for position, candidate in enumerate(candidates):
            for name, value in _parameters(candidate):
                known = codes.get(name)
                if known is None:
                    known = codes[name] = {(type(None), None): 0}
                    columns[name] = np.zeros(len(candidates), dtype=np.int32)
                # By type: True and 1 are equal as dictionary keys and different as settings.
                columns[name][position] = known.setdefault((type(value), value), len(known))
        names = tuple(columns)
        values = tuple(tuple(value for _, value in codes[name]) for name in names)
        stacked = [columns[name] for name in names]
        rows = np.stack(stacked, axis=1) if stacked else np.zeros((len(candidates), 0), dtype=np.int32)
        # Columns are what is worked with.
        return cls(names, values, np.asfortranarray(rows))

    def row(self, configuration: Configuration) -> Ints:
        """The codes of any configuration."""
        own = dict(_parameters(configuration))
        return np.array([self._code(i, own.get(name)) for i, name in enumerate(self.names)], dtype=np.int32)

    def column(self, name: str) -> int | None:
        return self.names.index(name) if name in self.names else None

    def alike(self, position: int, columns: Sequence[int]) -> Ints:
        """Positions of the candidates that have what this one has in all these columns, itself among them."""
        key = tuple(columns)
        if key not in self._groups:
            self._groups[key] = _Groups.of(self._numbered(key))
        return self._groups[key].members(position)

    def _numbered(self, columns: tuple[int, ...]) -> Ints:
        """A number for each candidate, the same for those that are alike in all these columns."""
        mixed = np.zeros(len(self.rows), dtype=np.int64)
        size = 1
        for column in columns:
            if size * len(self.values[column]) > np.iinfo(np.int64).max:
                mixed = np.unique(mixed, return_inverse=True)[1].astype(np.int64)
                size = len(self.rows)
            mixed = mixed * len(self.values[column]) + self.rows[:, column]
            size *= len(self.values[column])
        return np.unique(mixed, return_inverse=True)[1].astype(np.int32)

    def _code(self, column: int, value: Scalar | None) -> int:
        own = (type(value), value)
        known = self.values[column]
        return next((code for code, other in enumerate(known) if (type(other), other) == own), UNKNOWN)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Attributes:
    number: The group of each candidate.
    order: Positions of the candidates, group after group.
    starts: Where each group begins in `order`; one more for the end.
    """

    number: Ints
    order: Ints
    starts: Ints

    @classmethod
    def of(cls, number: Ints) -> _Groups:
        order = np.argsort(number, kind="stable").astype(np.int32)
        starts = np.searchsorted(number[order], np.arange(int(number.max(initial=-1)) + 2)).astype(np.int32)
        return cls(number, order, starts)

    def members(self, position: int) -> Ints:
        group = self.number[position]
        return self.order[self.starts[group] : self.starts[group + 1]]


def _parameters(configuration: Configuration) -> Iterator[tuple[str, Scalar]]:
    """`Configuration.parameters` without the dictionary; a scheme among the settings comes last and wins."""
    yield "scheme", configuration.scheme.value
    yield "algorithm", configuration.algorithm.value
    if configuration.group_size is not None:
        yield "group-size", configuration.group_size
    if configuration.variant is not None:
        yield "variant", configuration.variant
    yield from configuration.engine
