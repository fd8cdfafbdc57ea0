"""How alike the results of two configurations are expected to be, before anything is measured.

A sum of what each parameter does by itself (a slope for a number, an offset for each value of a category), what a
number does under one value of a category and not under another (a scheme that does not scale with the load), and a
smooth remainder in which everything may depend on everything. With a handful of measurements most of what can be known
is in the first two. Results of other tunings share a part of all this: the intrinsic model of coregionalization with
one coefficient (Bonilla, Chai and Williams, "Multi-task Gaussian process prediction", 2007).
"""

from __future__ import annotations

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
            covariance = self._own(X, other) * self._together(X, other)
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
        scales, count = self.scales, len(self.scales.slopes)
        total = np.zeros((len(X), len(Y)))
        products = np.zeros_like(total)
        apart = np.zeros_like(total)
        for column, slope in enumerate(scales.slopes, start=1):
            mine, theirs = X[:, column][:, None], Y[:, column][None, :]
            product = mine * theirs
            total += slope**2 * product
            products += product
            apart += ((mine - theirs) / scales.reach) ** 2
        for column, offset in enumerate(scales.offsets, start=1 + count):
            mine, theirs = X[:, column][:, None], Y[:, column][None, :]
            same = mine == theirs
            total += offset**2 * same + scales.interplay**2 * same * products
            apart += 2.0 * min(1.0, offset / _WHOLE) * ~same
        return np.asarray(total + scales.rest**2 * np.exp(-0.5 * apart))
