"""What is to be improved, and the limits that a winner keeps."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from haqa_operator.api.base import ResourceModel
from haqa_operator.api.metrics import LATENCIES, PERCENTILES, MetricKey, higher_is_better


class Direction(StrEnum):
    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class Objective(ResourceModel):
    """A measured number to make as good as can be."""

    metric: Annotated[str, Field(max_length=128)] = "throughput"
    """throughput (output tokens/s), throughputPerCost, totalThroughput, requestRate, ttft, itl, tpot, e2e (ms)"""
    percentile: int | None = None
    """For latencies: 50, 90, 95 or 99; none = the mean"""
    concurrency: Annotated[int | None, Field(ge=1)] = None
    """One level of the workload; none = all of them (throughput: geometric mean, latency: worst level)"""
    direction: Direction | None = None
    """By default the metric's own: more throughput, less latency"""

    @property
    def key(self) -> MetricKey:
        return MetricKey(self.metric, self.percentile, self.concurrency)

    @property
    def maximize(self) -> bool:
        if self.direction is not None:
            return self.direction is Direction.MAXIMIZE
        return higher_is_better(self.metric) is not False

    @model_validator(mode="after")
    def _percentile_of_a_latency(self) -> Objective:
        check_percentile(self.metric, self.percentile)
        return self


class Constraint(ResourceModel):
    """A limit that the winner keeps. Degradation is relative to the measured baseline."""

    metric: Annotated[str, Field(max_length=128)]
    """perplexity, klDivergence, accuracy.<task>, adapter.<name>, ttft, itl, tpot, e2e (ms), throughput, requestRate"""
    percentile: int | None = None
    """For latencies: 50, 90, 95 or 99; none = the mean"""
    concurrency: Annotated[int | None, Field(ge=1)] = None
    """One level of the workload; none = all of them (throughput: geometric mean, latency: worst level)"""
    max_degradation_percent: Annotated[float | None, Field(ge=0)] = None
    """How much worse than the baseline it may be"""
    min: float | None = None
    """Smallest value the winner may have"""
    max: float | None = None
    """Largest value the winner may have"""

    @property
    def key(self) -> MetricKey:
        return MetricKey(self.metric, self.percentile, self.concurrency)

    @model_validator(mode="after")
    def _says_something(self) -> Constraint:
        check_percentile(self.metric, self.percentile)
        limits = (self.max_degradation_percent, self.min, self.max)
        if all(limit is None for limit in limits):
            raise ValueError(f"{self.metric}: no limit; give min, max or maxDegradationPercent")
        if self.max_degradation_percent is not None and (self.min is not None or self.max is not None):
            raise ValueError(f"{self.metric}: maxDegradationPercent excludes min and max; write two constraints")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.metric}: min {self.min:g} is above max {self.max:g}; nothing can meet both")
        return self

    def describe(self) -> str:
        if self.max_degradation_percent is not None:
            return f"{self.key} at most {self.max_degradation_percent:g} % worse than the baseline"
        bounds = [
            f">= {self.min:g}" if self.min is not None else "",
            f"<= {self.max:g}" if self.max is not None else "",
        ]
        return f"{self.key} " + " and ".join(bound for bound in bounds if bound)


def check_percentile(metric: str, percentile: int | None) -> None:
    if percentile is None:
        return
    if metric not in LATENCIES:
        raise ValueError(f"percentile {percentile}: {metric} has none; only {', '.join(LATENCIES)} have")
    if percentile not in PERCENTILES:
        raise ValueError(f"percentile {percentile}: choose one of {', '.join(map(str, PERCENTILES))}")
