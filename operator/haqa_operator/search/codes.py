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
    _groups: dict[tuple[int, ...], Ints] = field(default_factory=dict, repr=False)

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
        return cls(names, values, rows)

    def row(self, configuration: Configuration) -> Ints:
        """The codes of any configuration."""
        own = dict(_parameters(configuration))
        return np.array([self._code(i, own.get(name)) for i, name in enumerate(self.names)], dtype=np.int32)

    def column(self, name: str) -> int | None:
        return self.names.index(name) if name in self.names else None

    def varies(self, column: int) -> bool:
        """Whether candidates differ in it."""
        codes = self.rows[:, column]
        return bool(len(codes)) and bool((codes != codes[0]).any())

    def groups(self, columns: Sequence[int]) -> Ints:
        """A number for each candidate; candidates that are alike in all these columns have the same one."""
        key = tuple(columns)
        if key not in self._groups:
            self._groups[key] = self._numbered(key)
        return self._groups[key]

    def _numbered(self, columns: tuple[int, ...]) -> Ints:
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


def _parameters(configuration: Configuration) -> Iterator[tuple[str, Scalar]]:
    """`Configuration.parameters`, in order and without the dictionary: the engine's own `scheme` comes last and wins."""
    yield "scheme", configuration.scheme.value
    yield "algorithm", configuration.algorithm.value
    if configuration.group_size is not None:
        yield "group-size", configuration.group_size
    yield from configuration.engine
