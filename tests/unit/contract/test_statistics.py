"""Intervals: right where tables exist, and honest about few repeats."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract.statistics import estimate, geometric_estimate, paired_ratio, quantile, settled, student_t

FINITE = st.floats(min_value=-1e9, max_value=1e9)
POSITIVE = st.floats(min_value=1e-6, max_value=1e6)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    # Two-sided 95 % quantiles from published tables.
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (29, 2.0452), (120, 1.9799), (1e6, 1.95997)],
)
def test_quantiles_of_t_equal_the_published_table(degrees: float, expected: float) -> None:
    assert student_t(degrees) == pytest.approx(expected, abs=6e-5)


def test_quantiles_of_t_are_known_for_other_confidences_and_broken_degrees() -> None:
    assert student_t(10, 0.99) == pytest.approx(3.1693, abs=1e-4)
    assert student_t(2) > student_t(2.5) > student_t(3)


@pytest.mark.parametrize(("degrees", "confidence"), [(0, 0.95), (-1, 0.95), (math.nan, 0.95), (3, 1.0), (3, 0.0)])
def test_quantiles_that_do_not_exist_are_refused(degrees: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="must"):
        student_t(degrees, confidence)


def test_three_repeats_give_the_textbook_interval() -> None:
    three = estimate([10.0, 12.0, 14.0])
    assert (three.value, three.n) == (12.0, 3)
    assert three.high - three.value == pytest.approx(4.3027 * 2 / math.sqrt(3), rel=1e-4)


def test_one_repeat_has_no_spread() -> None:
    one = estimate([5.0])
    assert one.low == one.value == one.high == 5.0


@pytest.mark.parametrize("bad", [[], [math.nan], [1.0, math.inf]])
def test_what_cannot_be_averaged_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|not a number"):
        estimate(bad)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    source = random.Random(7)
    trials = 2000
    covered = 0
    for _ in range(trials):
        measured = estimate([source.gauss(100, 5) for _ in range(4)])
        covered += measured.low <= 100 <= measured.high
    assert covered / trials == pytest.approx(0.95, abs=0.015)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_the_mean_lies_inside_its_interval(values: list[float]) -> None:
    result = estimate(values)
    assert result.low <= result.value <= result.high


@given(st.lists(POSITIVE, min_size=2, max_size=10), st.floats(min_value=0.01, max_value=100))
def test_the_geometric_mean_scales_with_its_values(values: list[float], factor: float) -> None:
    one, other = geometric_estimate(values), geometric_estimate([value * factor for value in values])
    assert other.value == pytest.approx(one.value * factor, rel=1e-6)


def test_drift_that_both_members_of_a_pair_share_does_not_widen_their_ratio() -> None:
    drift = [1.0, 0.8, 0.5, 0.3]
    ratio = paired_ratio([200 * share for share in drift], [100 * share for share in drift])
    assert ratio.value == pytest.approx(2)
    assert ratio.high - ratio.low < 1e-9


@pytest.mark.parametrize(("above", "below"), [([1.0], []), ([1.0], [0.0]), ([-1.0], [1.0]), ([], [])])
def test_ratios_that_are_not_defined_are_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs|above 0|no values"):
        paired_ratio(above, below)


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 2.5), (0.9, 3.7), (1, 4)])
def test_quantiles_interpolate_between_samples(share: float, expected: float) -> None:
    assert quantile([4, 1, 3, 2], share) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ratios", "least", "expected"),
    [
        ([1.5], 1.0, False),
        ([1.5, 1.5], 1.0, True),
        ([1.5, 1.4], 1.0, False),
        ([1.5, 1.45, 1.48], 1.02, True),
        ([1.01, 1.0, 1.02], 1.02, False),
        ([0.7, 0.71, 0.7], 1.02, True),
    ],
)
def test_few_pairs_settle_what_is_far_from_the_least(ratios: list[float], least: float, expected: bool) -> None:
    assert settled(ratios, 5, least) is expected


def test_looking_after_every_pair_finds_something_in_noise_no_more_often_than_one_look() -> None:
    source, found, searches = random.Random(3), 0, 2000
    for _ in range(searches):
        ratios = [source.lognormvariate(0, 0.05) for _ in range(5)]
        found += any(settled(ratios[:count], 5) for count in range(2, 6))
    assert found / searches <= 0.05
