"""An engine gets the time that its weights take to load, on top of what every engine needs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_operator.serving.startup import MAX_STARTUP_S, StartupLimit

LIMIT = StartupLimit(base_s=900, megabytes_per_s=200)


@pytest.mark.parametrize(
    ("weight_bytes", "seconds"), [(None, 900), (0, 900), (16e9, 980), (140e9, 1600), (1.3e12, 7400), (1e15, 21600)]
)
def test_time_grows_with_the_bytes_to_load(weight_bytes: float | None, seconds: float) -> None:
    assert LIMIT.seconds(weight_bytes) == seconds


@given(st.floats(0, 1e16), st.floats(1, 1e5), st.floats(1, 1e5))
def test_it_is_bounded_and_never_less_than_the_base(weight_bytes: float, base_s: float, rate: float) -> None:
    limit = StartupLimit(base_s, rate)
    assert base_s <= limit.seconds(weight_bytes) <= max(base_s, MAX_STARTUP_S)
    assert limit.seconds(weight_bytes) >= limit.seconds(weight_bytes / 2)


def test_a_trial_that_cannot_hold_the_start_is_said() -> None:
    said = LIMIT.cramped(140e9, timedelta(minutes=25))
    assert said is not None
    assert said.startswith("budget.trialTimeout 25m may end before an engine has started, which gets 27 min: 140 GB of")
    assert "200 MB/s take 12 of them; raise it" in said


@pytest.mark.parametrize(
    ("weight_bytes", "timeout"),
    [(140e9, timedelta(hours=2)), (1e9, timedelta(minutes=10)), (None, timedelta(minutes=1))],
)
def test_nothing_is_said_where_it_can_or_where_loading_is_no_part_of_it(
    weight_bytes: float | None, timeout: timedelta
) -> None:
    assert LIMIT.cramped(weight_bytes, timeout) is None
