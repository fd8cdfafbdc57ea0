"""What was measured, at today's price: a price that changes makes no measured number another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from haqa_contract import Estimate
from haqa_operator.api import Trial
from haqa_operator.api.metrics import MetricKey

_OF = "throughput"
_PER_COST = "throughputPerCost"
_SECONDS = 3600.0


def at_price(trials: Sequence[Trial], cost_per_hour: float | None) -> tuple[Trial, ...]:
    """The trials with throughputPerCost by this price of one replica's machines; as they are where there is none."""
    if cost_per_hour is None:
        return tuple(trials)
    return tuple(_priced(trial, _SECONDS / cost_per_hour) for trial in trials)


def _priced(trial: Trial, factor: float) -> Trial:
    metrics = {_per_cost(key): _scaled(trial.status.metrics[key], factor) for key in _rates(trial.status.metrics)}
    samples = {
        _per_cost(key): tuple(factor * value for value in trial.status.samples[key])
        for key in _rates(trial.status.samples)
    }
    if not metrics:
        return trial
    more = {"metrics": {**trial.status.metrics, **metrics}, "samples": {**trial.status.samples, **samples}}
    return trial.model_copy(update={"status": trial.status.model_copy(update=more)})


def _rates(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if MetricKey.parse(key).metric == _OF]


def _per_cost(key: str) -> str:
    return str(MetricKey(_PER_COST, concurrency=MetricKey.parse(key).concurrency))


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(value=factor * estimate.value, low=factor * estimate.low, high=factor * estimate.high, n=estimate.n)
