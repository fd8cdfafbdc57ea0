"""An answer of a Prometheus, or of what claims to be one, becomes series or is refused."""

import math
from typing import Any

import pytest

from haqa_operator.metrics.prometheus_series import series_of


def entry(*values: Any, name: str = "vllm:prompt_tokens_total") -> dict[str, Any]:
    return {"metric": {"__name__": name}, "values": list(values)}


def test_samples_come_in_the_order_of_their_times() -> None:
    (one,) = series_of([entry([2.0, "7"], [1.0, "5"])])
    assert one.points == ((1.0, 5.0), (2.0, 7.0))


def test_samples_that_are_no_numbers_are_left_out() -> None:
    (one,) = series_of([entry([1.0, "NaN"], [2.0, "+Inf"], [3.0, "4"])])
    assert one.points == ((3.0, 4.0),)


@pytest.mark.parametrize("at", [-1.0, 1e300, math.inf, math.nan, 1_800_000_000_000_000])
def test_times_that_no_clock_shows_are_refused(at: float) -> None:
    with pytest.raises(ValueError, match="no clock shows"):
        series_of([entry([at, "1"])])


def test_labels_that_are_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="label is no text"):
        series_of([{"metric": {"__name__": "vllm:prompt_tokens_total", "pod": {}}, "values": []}])


@pytest.mark.parametrize("answer", [None, {}, "vector", [1], [{}], [{"metric": {}, "values": []}], [entry(1)]])
def test_what_is_no_matrix_is_refused(answer: object) -> None:
    with pytest.raises(ValueError, match=r"expected|no matrix"):
        series_of(answer)
