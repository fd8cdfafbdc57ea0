from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_trial

from haqa_contract import Estimate
from haqa_operator.api import Objective, Trial
from haqa_operator.decision.comparison import beats, compare

THROUGHPUT = Objective(metric="throughput")
LATENCY = Objective(metric="e2e")


def repeated(*samples: float, metric: str = "throughput") -> Trial:
    mean = math.exp(sum(map(math.log, samples)) / len(samples))
    return make_trial(1).metric(metric, mean, samples=samples).obj()


def test_a_clear_difference_is_one() -> None:
    comparison = compare(repeated(150, 151, 149), repeated(100, 101, 99), THROUGHPUT, 3)
    assert comparison.better
    assert comparison.ratio.value == pytest.approx(1.5, rel=1e-3)
    assert 1.45 < comparison.ratio.low < 1.5 < comparison.ratio.high < 1.55


def test_a_difference_inside_the_noise_is_a_tie() -> None:
    comparison = compare(repeated(90, 110, 130), repeated(85, 100, 115), THROUGHPUT, 0)
    assert not comparison.better
    assert comparison.ratio.low < 1 < comparison.ratio.high


def test_welchs_interval_is_the_textbooks() -> None:
    """Two groups of logarithms with variances 0.01 and 0.04, three repeats each: df = 2.9412, t = 3.218759."""
    first = repeated(*(math.exp(x) for x in (0.9, 1.0, 1.1)))
    second = repeated(*(math.exp(x) for x in (-0.2, 0.0, 0.2)))
    ratio = compare(first, second, THROUGHPUT, 0).ratio
    standard_error = math.sqrt(0.01 / 3 + 0.04 / 3)
    assert math.log(ratio.high / ratio.value) / standard_error == pytest.approx(3.218759, rel=1e-6)
    assert math.log(ratio.value) == pytest.approx(1.0)


def test_a_significant_but_small_gain_is_a_tie_up_to_and_with_the_least_improvement() -> None:
    hundred, three_more = repeated(100, 100, 100), repeated(103, 103, 103)
    assert not compare(three_more, hundred, THROUGHPUT, 3).better
    assert compare(three_more, hundred, THROUGHPUT, 2.9).better


def test_less_latency_is_better() -> None:
    fast, slow = repeated(50, 51, metric="e2e"), repeated(100, 101, metric="e2e")
    assert compare(fast, slow, LATENCY, 3).better
    assert not compare(slow, fast, LATENCY, 3).better
    assert compare(fast, slow, LATENCY, 3).ratio.value == pytest.approx(2, rel=0.01)


def test_one_repeat_borrows_the_spread_of_the_other_side() -> None:
    once = repeated(112)
    noisy = repeated(95, 100, 105)
    assert not compare(once, noisy, THROUGHPUT, 3).better
    assert compare(repeated(200), noisy, THROUGHPUT, 3).better


def test_with_one_repeat_on_both_sides_the_least_improvement_decides() -> None:
    assert compare(repeated(104), repeated(100), THROUGHPUT, 3).better
    assert not compare(repeated(102), repeated(100), THROUGHPUT, 3).better
    assert compare(repeated(104), repeated(100), THROUGHPUT, 3).ratio.low == pytest.approx(1.04)


def test_an_interval_without_the_repeats_behind_it_is_used_as_it_is() -> None:
    wide = make_trial(1).throughput(110, margin=30).obj()
    narrow = make_trial(2).throughput(110, margin=1).obj()
    reference = make_trial(0).throughput(100, margin=1).obj()
    assert not compare(wide, reference, THROUGHPUT, 0).better
    assert compare(narrow, reference, THROUGHPUT, 0).better


def test_zero_width_intervals_compare_without_noise() -> None:
    same = make_trial(1).metric("throughput", 100, samples=(100.0, 100.0)).obj()
    assert not compare(same, same, THROUGHPUT, 0).better
    assert compare(same, same, THROUGHPUT, 0).ratio == Estimate(value=1, low=1, high=1, n=2)


@given(
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=5),
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=5),
    st.floats(1e-3, 1e3),
    st.floats(0, 50),
)
def test_never_both_ways_and_never_by_the_unit(
    first: list[float], second: list[float], unit: float, percent: float
) -> None:
    a, b = repeated(*first), repeated(*second)
    forth, back = compare(a, b, THROUGHPUT, percent), compare(b, a, THROUGHPUT, percent)
    assert not (forth.better and back.better)
    assert forth.ratio.low <= forth.ratio.value <= forth.ratio.high
    scaled = compare(repeated(*(x * unit for x in first)), repeated(*(x * unit for x in second)), THROUGHPUT, percent)
    assert scaled.ratio.value == pytest.approx(forth.ratio.value, rel=1e-6)


@pytest.mark.parametrize(
    ("low", "value", "percent", "beaten"),
    [(1.02, 1.05, 3, True), (0.99, 1.05, 3, False), (1.0, 1.05, 3, False), (1.01, 1.03, 3, False), (1.2, 1.2, 0, True)],
)
def test_a_ratio_measured_in_turn_must_exclude_one_and_exceed_the_least_improvement(
    low: float, value: float, percent: float, beaten: bool
) -> None:
    assert beats(Estimate(value=value, low=low, high=2 * value - low, n=5), percent) is beaten
