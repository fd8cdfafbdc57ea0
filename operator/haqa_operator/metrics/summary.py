"""A trial's report, reduced to the numbers that constraints, objectives and people refer to by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from haqa_contract import Estimate, LoadReport, TrialReport, Window, Workload, figures
from haqa_contract.figures import counted, figure
from haqa_contract.statistics import geometric_mean
from haqa_operator.api.metrics import RATES, MetricKey
from haqa_operator.metrics.intervals import interval

Samples = Mapping[MetricKey, Sequence[float]]


class Summary(NamedTuple):
    """Estimates by metric key, and the repeats behind those that have repeats (in the order of measuring)."""

    metrics: dict[str, Estimate]
    samples: dict[str, tuple[float, ...]]


def summarize(report: TrialReport, *, workload: Workload, cost_per_hour: float | None = None) -> Summary:
    """Every number that a trial's report holds, by metric key (see `haqa_operator.api.metrics`).

    Args:
        report: The merged report of the runner's steps; a failed trial's gives what it got to.
        workload: The load that was asked for. A level of it without a single valid window leaves the figures over
            all levels out: the other levels' mean would not be comparable with another trial's.
        cost_per_hour: Price of one replica's machines, for throughputPerCost (tokens per unit of cost).
    """
    samples = _load_samples(report.load, cost_per_hour) if report.load else {}
    if all(MetricKey("throughput", concurrency=level) in samples for level in workload.concurrency):
        samples |= over_levels(samples)
    metrics = {str(key): interval(key, values) for key, values in samples.items()}
    if report.accuracy:
        metrics |= {name: value for name, value in report.accuracy.metrics.items() if math.isfinite(value.value)}
    if report.artifact:
        size = float(report.artifact.size_bytes)
        metrics["artifactBytes"] = Estimate(value=size, low=size, high=size, n=1)
    return Summary(metrics, {str(key): values for key, values in samples.items()})


def over_levels(samples: Samples) -> dict[MetricKey, tuple[float, ...]]:
    """The figures that stand for all levels of a workload, from those of each level.

    Rates: the geometric mean over the levels, repeat by repeat (the i-th of every level), so that each level weighs
    the same whatever its size. Latencies: the repeats of the level whose mean is worst. A figure that one of the
    levels lacks is left out.
    """
    levels = {key.concurrency for key in samples if key.concurrency is not None}
    by_level: dict[MetricKey, list[Sequence[float]]] = {}
    for key, values in samples.items():
        if key.concurrency is not None:
            by_level.setdefault(key.at(None), []).append(values)
    return {
        key: _rounds(values) if key.metric in RATES else _worst(values)
        for key, values in by_level.items()
        if len(values) == len(levels)
    }


def _rounds(levels: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(geometric_mean(values) for values in zip(*levels, strict=False))


def _worst(levels: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(max(levels, key=fmean))


def _load_samples(load: LoadReport, cost_per_hour: float | None) -> dict[MetricKey, tuple[float, ...]]:
    """Metric key with its level -> one value for each valid window, in order of repeat."""
    valid = sorted(counted(load.windows), key=lambda w: (w.repeat, w.started))
    samples: dict[MetricKey, list[float]] = {}
    for window in sorted(valid, key=lambda w: w.concurrency):
        for key, value in _window_values(window, cost_per_hour):
            samples.setdefault(key.at(window.concurrency), []).append(value)
    # One output token has no inter-token latency: such a figure is absent, not zero and not NaN.
    return {key: tuple(values) for key, values in samples.items() if all(map(math.isfinite, values))}


def _window_values(window: Window, cost_per_hour: float | None) -> Iterator[tuple[MetricKey, float]]:
    for metric in figures.RATES:
        yield MetricKey(metric), figure(window, metric)
    if cost_per_hour:
        yield MetricKey("throughputPerCost"), 3600 * window.output_tokens_per_s / cost_per_hour
    for metric in figures.LATENCIES:
        for percentile in (None, *figures.PERCENTILES):
            yield MetricKey(metric, percentile), figure(window, metric, percentile)
