from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract import Estimate
from haqa_contract.statistics import estimate
from haqa_operator.api.metrics import MetricKey
from haqa_operator.metrics.intervals import interval


def test_a_rates_interval_is_symmetric_in_ratios_and_a_latencys_in_milliseconds() -> None:
    rate = interval(MetricKey("throughput"), [50, 100, 200])
    assert rate.value == pytest.approx(100)
    assert rate.high / rate.value == pytest.approx(rate.value / rate.low)
    assert rate.low > 0
    assert interval(MetricKey("ttft", 95), [50, 100, 200]) == estimate([50, 100, 200])


def test_equal_repeats_give_their_value_exactly() -> None:
    assert interval(MetricKey("throughput"), [0.1, 0.1]) == Estimate(value=0.1, low=0.1, high=0.1, n=2)


def test_a_rate_that_reached_zero_has_an_arithmetic_mean() -> None:
    assert interval(MetricKey("throughput"), [0, 10]).value == 5


@pytest.mark.parametrize("values", [[], [math.nan], [1, math.inf]])
def test_values_that_cannot_be_averaged_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|not a number"):
        interval(MetricKey("throughput"), values)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=4), st.sampled_from(["throughput", "requestRate"]))
def test_bounds_enclose_the_value_and_stay_finite(values: list[float], metric: str) -> None:
    result = interval(MetricKey(metric), values)
    assert result.low <= result.value <= result.high
    assert math.isfinite(result.high)
