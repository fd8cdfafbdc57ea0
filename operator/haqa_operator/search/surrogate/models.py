"""One Gaussian process for each metric that the objective or a constraint needs.

scikit-learn's, on the logarithm of the metric over the baseline's, with what is expected beforehand (`priors`) as its
mean. Every trial that has the metric counts, feasible or not, also one that was ended at the accuracy gate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel

from haqa_contract import Configuration
from haqa_operator.api.metrics import MetricKey, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import find_baseline, measured
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.surrogate.kernel import TrialKernel
from haqa_operator.search.surrogate.priors import Expectation, expected, scales_of
from haqa_operator.search.surrogate.rows import Rows

Vector = npt.NDArray[np.float64]

MOST_TRIALS = 150
"""Measurements that one model is fitted to: the newest and the best. A fit takes time by the cube of their number."""

_CALIBRATED_FROM = 6
"""Measurements of this tuning from which on the scale of what is not known is fitted to them."""
_SCALE_BOUNDS = (0.1, 10.0)
_LEAST_NOISE = 0.02
"""Standard deviation: what restarting an engine changes, whatever the windows of one run say."""
_LOOK_NOISE = 0.06
"""Where the load test ended after one short look."""

_SURPRISE = 2.0
"""Standard deviations of what is expected: an accuracy that is further off is taken to be that far off. A format that
breaks a model (integer activations where it has outliers) says so of itself, and nothing of the algorithm, the bits and
the settings that it shares with others; a Gaussian process would spread the blame among all of them."""

_SHIFTS = {"klDivergence": 1e-3}
"""Added before the logarithm, for a metric whose baseline is 0 by definition."""


@dataclass(frozen=True)
class Measurements:
    """One metric of one tuning, as logarithms over its reference: the baseline, or its first trial that has it.

    Attributes:
        reference: The reference's value, in the metric's own unit.
        anchor: Its configuration.
    """

    configurations: tuple[Configuration, ...]
    values: tuple[float, ...]
    noise: tuple[float, ...]
    reference: float
    anchor: Configuration


def measurements(key: MetricKey, trials: Sequence[Trial]) -> Measurements | None:
    """What the reference and the newest trials say of a metric; None where none has it."""
    found = [(trial, value) for trial in trials if (value := _value(trial, key)) is not None]
    if not found:
        return None
    baseline = find_baseline(trials)
    reference, value = anchor = next((pair for pair in found if pair[0] is baseline), found[0])
    if len(found) > MOST_TRIALS:
        found = [anchor, *(pair for pair in found[1 - MOST_TRIALS :] if pair is not anchor)]
    return Measurements(
        configurations=tuple(trial.configuration for trial, _ in found),
        values=tuple(log(one / value) for _, one in found),
        noise=tuple(_noise(trial, key) for trial, _ in found),
        reference=value,
        anchor=reference.configuration,
    )


def _value(trial: Trial, key: MetricKey) -> float | None:
    value = measured(trial, key)
    shifted = None if value is None else value + _SHIFTS.get(key.metric, 0.0)
    return shifted if shifted is not None and shifted > 0 else None


def relative(key: MetricKey, value: float, reference: float) -> float:
    """A value on the model's scale; minus infinity for one that no measurement can be below."""
    shifted = value + _SHIFTS.get(key.metric, 0.0)
    return log(shifted / reference) if shifted > 0 else -float("inf")


def _noise(trial: Trial, key: MetricKey) -> float:
    """Standard deviation of the logarithm, from the 95 % interval of the mean."""
    estimate = trial.status.metrics.get(str(key))
    if estimate is None or estimate.value <= 0 or not estimate.high > estimate.low:
        return _LOOK_NOISE if trial.status.ended_early and not is_accuracy(key.metric) else _LEAST_NOISE
    return max(_LEAST_NOISE, min(1.0, (estimate.high - estimate.low) / 3.92 / estimate.value))


@dataclass(frozen=True)
class MetricModel:
    """What is known of one metric over the whole space.

    Attributes:
        reference: What the predictions are relative to, in the metric's unit.
    """

    rows: Rows
    reference: float
    _expected: Callable[[Sequence[Configuration]], Vector]
    _process: GaussianProcessRegressor

    @classmethod
    def fit(
        cls,
        key: MetricKey,
        space: SearchSpace,
        rows: Rows,
        trials: Sequence[Trial],
        history: Sequence[Sequence[Trial]] = (),
        expects: Expectation = expected,
    ) -> MetricModel | None:
        """None where no trial has the metric.

        Args:
            history: Trials of other tunings, each with its baseline: like models, or the same on other hardware.
            expects: The mean, before anything is measured.
        """
        own = measurements(key, trials)
        if own is None:
            return None
        tasks = [own, *(found for run in history if (found := measurements(key, run)) is not None)]
        table = np.vstack([_rows(rows, number, task) for number, task in enumerate(tasks)])
        before = partial(expects, key, space, rows)
        surprises = np.concatenate([np.array(t.values) - _over(t.anchor, before, t.configurations) for t in tasks])
        noise = np.concatenate([task.noise for task in tasks])
        kept = slice(MOST_TRIALS)  # all of this tuning before any of others
        scale = ConstantKernel(1.0, _SCALE_BOUNDS if len(own.values) >= _CALIBRATED_FROM else "fixed")
        kernel = TrialKernel(scales_of(key, space, rows.features))
        if is_accuracy(key.metric):
            most = _SURPRISE * np.sqrt(kernel.diag(table))
            surprises = np.clip(surprises, -most, most)
        process = GaussianProcessRegressor(
            scale * kernel,
            alpha=noise[kept] ** 2,
            optimizer=_least if len(own.values) >= _CALIBRATED_FROM else None,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is what the bound is for
            process.fit(table[kept], surprises[kept])
        return cls(rows, own.reference, partial(_over, own.anchor, before), process)

    def predict(self, configurations: Sequence[Configuration]) -> tuple[Vector, Vector]:
        """Mean and standard deviation of the logarithm over the reference, for each configuration."""
        table = _with_task(self.rows.of(configurations), 0)
        mean, deviation = self._process.predict(table, return_std=True)
        return mean + self._expected(configurations), deviation


def _least(objective: Callable[..., float], start: Vector, bounds: npt.NDArray[np.float64]) -> tuple[Vector, float]:
    """scikit-learn's `optimizer` for one number, which needs no gradient: that is most of what a step costs."""

    def at(theta: float) -> float:
        return objective(np.array([theta]), eval_gradient=False)

    found = minimize_scalar(at, bounds=tuple(bounds[0]), method="bounded", options={"xatol": 1e-3})
    return np.array([found.x]), float(found.fun)


def _rows(rows: Rows, task: int, found: Measurements) -> npt.NDArray[np.float64]:
    return _with_task(rows.of(found.configurations), task)


def _with_task(rows: npt.NDArray[np.float64], task: int) -> npt.NDArray[np.float64]:
    return np.column_stack([np.full(len(rows), float(task)), rows])


def _over(
    anchor: Configuration,
    before: Callable[[Sequence[Configuration]], Vector],
    configurations: Sequence[Configuration],
) -> Vector:
    """What is expected of configurations, over what is expected of the anchor."""
    return np.asarray(before(configurations) - before([anchor]))
