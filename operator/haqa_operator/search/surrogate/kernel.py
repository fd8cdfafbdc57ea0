"""How alike the results of two configurations are expected to be, before anything is measured.

A sum of what each parameter does by itself (a slope for a number, an offset for each value of a category), what a
number does under one value of a category and not under another (a scheme that does not scale with the load), and a
smooth remainder in which everything may depend on everything. With a handful of measurements most of what can be known
is in the first two. Results of other tunings share a part of all this: the intrinsic model of coregionalization with
one coefficient (Bonilla, Chai and Williams, "Multi-task Gaussian process prediction", 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.gaussian_process.kernels import Kernel

Matrix = npt.NDArray[np.float64]


_WHOLE = 0.2
"""Offset from which on another value makes the remainder another; below it in proportion."""


@dataclass(frozen=True)
class Scales:
    """Standard deviations, in natural logarithms of the metric.

    Attributes:
        slopes: For each number, of its effect per doubling.
        offsets: For each category, of the effect of one of its values.
        interplay: Of what a doubling does more under one value of a category than under another.
        rest: Of the smooth remainder.
        reach: Doublings after which the remainder is another.
        shared: Share of the variance that another tuning has in common with this one, 0 to 1.
    """

    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    interplay: float
    rest: float
    reach: float
    shared: float


class TrialKernel(Kernel):  # type: ignore[misc]
    """Covariance of two rows: the tuning's number, then the columns of `Features`."""

    def __init__(self, scales: Scales) -> None:
        self.scales = scales
        self._fitted: tuple[Matrix, Matrix] | None = None

    def __call__(self, X: Matrix, Y: Matrix | None = None, eval_gradient: bool = False) -> Any:
        if Y is None and self._fitted is not None and self._fitted[0] is X:
            covariance = self._fitted[1]  # fitting the scale asks for the same matrix again and again
        else:
            other = X if Y is None else Y
            covariance = self._own(X, other)
            covariance *= self._together(X, other)
            self._fitted = (X, covariance) if Y is None else self._fitted
        return (covariance, np.empty((*covariance.shape, 0))) if eval_gradient else covariance

    def diag(self, X: Matrix) -> npt.NDArray[np.float64]:
        scales = self.scales
        slopes, offsets = np.array(scales.slopes), np.array(scales.offsets)
        numbers = X[:, 1 : 1 + len(slopes)]
        spread = slopes**2 + len(offsets) * scales.interplay**2
        return np.asarray((offsets**2).sum() + numbers**2 @ spread + scales.rest**2)

    def is_stationary(self) -> bool:
        return False

    def _together(self, X: Matrix, Y: Matrix) -> Matrix:
        return np.where(X[:, :1] == Y[:, 0], 1.0, self.scales.shared)

    def _own(self, X: Matrix, Y: Matrix) -> Matrix:
        """In few passes over the whole matrix, which has a row for every candidate."""
        scales, count = self.scales, len(self.scales.slopes)
        mine, theirs = X[:, 1 : 1 + count], Y[:, 1 : 1 + count]
        columns = range(1 + count, 1 + count + len(scales.offsets))
        codes = [_codes(X, Y, column) for column in columns]
        ours, others = (_one_hot(side, columns, codes) for side in (X, Y))
        offsets = np.repeat(scales.offsets, [len(each) for each in codes])
        total = np.hstack([mine * np.square(scales.slopes), ours * offsets**2]) @ np.hstack([theirs, others]).T
        interplay = mine @ theirs.T
        interplay *= ours @ others.T
        interplay *= scales.interplay**2
        total += interplay
        # As one distance: another value of a category is as far away as the doublings that `whole` stands for.
        whole = np.sqrt(np.minimum(1.0, offsets / _WHOLE))
        here, there = np.hstack([mine / scales.reach, ours * whole]), np.hstack([theirs / scales.reach, others * whole])
        rest = here @ there.T
        rest -= 0.5 * (here**2).sum(axis=1)[:, None]
        rest -= 0.5 * (there**2).sum(axis=1)
        np.exp(np.minimum(rest, 0.0, out=rest), out=rest)
        rest *= scales.rest**2
        total += rest
        return np.asarray(total)


def _one_hot(rows: Matrix, columns: Sequence[int], codes: Sequence[Matrix]) -> Matrix:
    """A column for each code of each category: 1 where a row has it."""
    flags = [rows[:, column, None] == each for column, each in zip(columns, codes, strict=True)]
    return np.hstack([np.empty((len(rows), 0)), *flags])


def _codes(X: Matrix, Y: Matrix, column: int) -> Matrix:
    """The values that a category has in either."""
    return np.unique(np.concatenate([X[:, column], Y[:, column]]))
