"""Candidates that are the same as a trial but for parameters in which they have no less of something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from haqa_contract import Scalar
from haqa_operator.api.trial import Trial
from haqa_operator.search.codes import UNKNOWN, Ints, Mask
from haqa_operator.search.lessons.evidence import Evidence
from haqa_operator.search.lessons.lesson import shown

Need = Callable[[str, "Scalar | None"], "float | None"]
"""A parameter's value -> how much of something it takes; None where the value has no place in an order."""


class Order:
    """One order of the candidates of a space.

    Args:
        takes: More of it never helps.
        free: Parameters that may differ in any way.
    """

    def __init__(self, evidence: Evidence, takes: Need, free: frozenset[str] = frozenset()) -> None:
        self._evidence = evidence
        self._codes = evidence.codes
        self._takes = takes
        self._free = free

    @cached_property
    def _needs(self) -> dict[int, npt.NDArray[np.float64]]:
        """Column -> what each of its values takes, NaN where it has no place in the order."""
        found = {}
        for column, (name, values) in enumerate(zip(self._codes.names, self._codes.values, strict=True)):
            each = [self._takes(name, value) for value in values]
            if name not in self._free and any(need is not None for need in each):
                found[column] = np.array([float("nan") if need is None else need for need in each])
        return found

    @cached_property
    def _equal(self) -> list[int]:
        """Columns that have to be the same."""
        return [
            column
            for column, name in enumerate(self._codes.names)
            if column not in self._needs and name not in self._free
        ]

    def no_less(self, trial: Trial) -> Ints:
        """Positions of the candidates that take no less than the trial in anything."""
        closes = self._evidence.alike(trial, self._equal)
        if not len(closes):
            return closes
        row = self._evidence.row(trial)
        fine = {column: self._no_less(trial, column, int(row[column])) for column in self._needs}
        # The columns that leave least come first.
        for column in sorted(fine, key=lambda column: np.count_nonzero(fine[column]) / len(fine[column])):
            kept = fine[column][self._codes.rows[closes, column]]
            if self._codes.names[column] == "group-size":
                # Wider weights take more whatever their groups; of the same width, smaller groups have more scales.
                scheme = self._codes.names.index("scheme")
                kept |= self._codes.rows[closes, scheme] != row[scheme]
            closes = closes[kept]
        return closes

    def parameters(self, trial: Trial) -> dict[str, Scalar]:
        """What those candidates have, for people: the trial's own value, or all that take no less."""
        found = of_values(self._evidence, trial, self._equal)
        row = self._evidence.row(trial)
        for column in self._needs:
            no_less = self._no_less(trial, column, int(row[column]))
            if not no_less.all():
                values = (str(shown(self._codes.values[column][code])) for code in np.flatnonzero(no_less))
                found[self._codes.names[column]] = " or ".join(values)
        return found

    def _no_less(self, trial: Trial, column: int, code: int) -> Mask:
        """For each value of the column, whether it takes no less than the trial's own, which has this code."""
        needs = self._needs[column]
        if code != UNKNOWN:
            found: Mask = np.greater(needs, needs[code])
            found[code] = True
            return found
        name = self._codes.names[column]
        mine = self._takes(name, trial.configuration.parameters.get(name))
        return np.greater(needs, float("nan") if mine is None else mine)


def of_values(evidence: Evidence, trial: Trial, columns: Sequence[int]) -> dict[str, Scalar]:
    """The trial's own values in these columns, those that it leaves to the engine left out."""
    own, names = trial.configuration.parameters, {evidence.codes.names[column] for column in columns}
    return {name: value for name, value in own.items() if name in names}
