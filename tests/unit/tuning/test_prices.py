"""Throughput for the money at a price that has changed since it was measured."""

from __future__ import annotations

import pytest

from haqa_contract import Configuration, Estimate
from haqa_operator.api import Trial
from haqa_operator.api.trial import Proposal, Proposer, TrialPhase, TrialStatus
from haqa_operator.tuning.prices import at_price


def measured(**metrics: float) -> Trial:
    estimates = {
        key.replace("_at_", "@"): Estimate(value=value, low=value - 1, high=value + 1, n=3)
        for key, value in metrics.items()
    }
    samples = {key: (one.value, one.value) for key, one in estimates.items()}
    return Trial(
        name="demo-a-000",
        tuning="demo",
        pool="a",
        number=0,
        proposal=Proposal(configuration=Configuration.of("BF16"), proposer=Proposer.BASELINE),
        status=TrialStatus(phase=TrialPhase.SUCCEEDED, metrics=estimates, samples=samples),
    )


@pytest.mark.parametrize("level", ["", "_at_8"])
def test_every_level_is_at_the_new_price(level: str) -> None:
    trial = measured(**{f"throughput{level}": 100.0, f"throughputPerCost{level}": 1.0, "ttft": 7.0})
    (priced,) = at_price([trial], 2.5)
    key = f"throughputPerCost{level.replace('_at_', '@')}"
    assert priced.status.metrics[key] == Estimate(value=144_000, low=142_560, high=145_440, n=3)
    assert priced.status.samples[key] == (144_000, 144_000)
    assert priced.status.metrics["ttft"] == trial.status.metrics["ttft"]


def test_a_price_that_came_later_counts_too() -> None:
    (priced,) = at_price([measured(throughput=100.0)], 3600)
    assert priced.status.metrics["throughputPerCost"].value == 100.0


@pytest.mark.parametrize(("price", "metrics"), [(None, {"throughput": 100.0}), (2.0, {}), (2.0, {"perplexity": 7.0})])
def test_what_has_no_price_or_no_throughput_stays_as_it_is(price: float | None, metrics: dict[str, float]) -> None:
    trial = measured(**metrics)
    assert at_price([trial], price) == (trial,)


def test_the_order_of_trials_is_the_same_at_any_price() -> None:
    trials = [measured(throughput=value) for value in (100.0, 300.0, 200.0)]
    for price in (0.1, 7.0):
        values = [trial.status.metrics["throughputPerCost"].value for trial in at_price(trials, price)]
        assert sorted(range(3), key=values.__getitem__) == [0, 2, 1]
