"""What Prometheus says of a window lies between what its scrapes allow, and is the truth where counters rise evenly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.metrics.windows import window

from haqa_contract import Window
from haqa_operator.metrics.prometheus_series import Labels, ScrapedPod, Series, samples_query
from haqa_operator.metrics.prometheus_windows import NotYet, Restarted, Unreadable, windows_from_prometheus

COUNTERS = {
    "vllm:generation_tokens_total": 1.0,
    "vllm:prompt_tokens_total": 2.0,
    "vllm:request_success_total": 0.1,
    "vllm:num_preemptions_total": 0.0,
}


def rising(rate: float, start: float, step_s: float, scrapes: int, *, restart_after: int | None = None) -> list[Series]:
    """Counters of an engine that makes `rate` output tokens a second; restarted, they begin at 0 again."""
    times = [start + step_s * i for i in range(scrapes)]
    series = []
    for name, share in COUNTERS.items():
        values = [rate * share * (at - start) for at in times]
        if restart_after is not None:
            values = values[:restart_after] + [value - values[restart_after] for value in values[restart_after:]]
        labels = {"instance": "10.0.0.1:8000", "job": "pods", "finished_reason": "length"}
        series.append(Series(name, labels, tuple(zip(times, values, strict=True))))
    return series


def measured(started: float, ended: float, client_rate: float) -> Window:
    return window(1, 0, client_rate).model_copy(
        update={"started": started, "ended": ended, "client_output_tokens_per_s": client_rate}
    )


@given(
    rate=st.floats(1, 10_000),
    step_s=st.floats(0.5, 5),
    offset=st.floats(0, 1),
    length=st.floats(3, 20),
)
def test_the_rate_of_an_even_counter_is_exact_wherever_the_edges_fall(
    rate: float, step_s: float, offset: float, length: float
) -> None:
    started = 1000 + step_s * (2 + offset)
    ended = started + length * step_s
    (read,) = windows_from_prometheus((measured(started, ended, rate),), rising(rate, 1000, step_s, 30))
    assert read.source == "prometheus"
    assert read.invalid is None
    assert read.output_tokens_per_s == pytest.approx(rate, rel=1e-6)
    assert read.total_tokens_per_s == pytest.approx(3 * rate, rel=1e-6)
    assert read.requests_per_s == pytest.approx(0.1 * rate, rel=1e-6)


def test_a_load_generator_that_counted_something_else_marks_the_window() -> None:
    (read,) = windows_from_prometheus((measured(1010, 1030, 130),), rising(100, 1000, 1, 40))
    assert read.invalid is not None
    assert "Prometheus counted 100.0 output tokens/s and the load generator 130.0" in read.invalid


def test_an_edge_that_is_not_scraped_yet_is_waited_for_and_never_extrapolated() -> None:
    with pytest.raises(NotYet):
        windows_from_prometheus((measured(1010, 1030, 100),), rising(100, 1000, 1, 30))


def test_an_engine_that_was_restarted_inside_the_window_is_named() -> None:
    with pytest.raises(Restarted, match="the engine was restarted"):
        windows_from_prometheus((measured(1010, 1030, 100),), rising(100, 1000, 1, 40, restart_after=20))


def test_a_missing_series_is_named() -> None:
    without = [one for one in rising(100, 1000, 1, 40) if one.name != "vllm:generation_tokens_total"]
    with pytest.raises(Unreadable, match="vllm:generation_tokens_total is missing"):
        windows_from_prometheus((measured(1010, 1030, 100),), without)


def test_the_query_names_pod_and_namespace_and_quotes_them() -> None:
    query = samples_query(ScrapedPod("serving", 'a"b'), Labels(), 1000.0, 1030.5)
    assert 'namespace="serving"' in query
    assert 'pod="a\\"b"' in query
    assert query.endswith("[31s] @ 1030.500")


def test_a_label_that_prometheus_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no Prometheus label name"):
        Labels(pod="po-d")
