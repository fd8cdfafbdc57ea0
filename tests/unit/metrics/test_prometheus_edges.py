"""Window figures from scrapes that do not fall on the window's edges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.metrics.scrapes import EVERY_2_S, Counter, scraped, series, steady, window

from haqa_contract.engine_metrics import COUNTERS, STARTED
from haqa_operator.metrics.prometheus_series import Series
from haqa_operator.metrics.prometheus_windows import NotYet, Restarted, Unreadable, windows_from_prometheus


def test_a_steady_counter_gives_its_rate_whatever_the_edges() -> None:
    (read,) = windows_from_prometheus([window(7.11, 17.77)], scraped(EVERY_2_S, steady()))
    assert read.output_tokens_per_s == pytest.approx(100)
    assert read.total_tokens_per_s == pytest.approx(300)
    assert read.requests_per_s == pytest.approx(3), "aborted requests are no answers"
    assert read.engine_mean_ms == pytest.approx({"ttft": 200, "itl": 10, "e2e": 1500, "queue": 50})
    assert read.preemptions == round(0.02 * 100 * 10.66)
    assert (read.source, read.invalid) == ("prometheus", None)
    assert read.disagreement == pytest.approx(0, abs=1e-6)


def test_percentiles_and_all_else_stay_the_runners() -> None:
    asked = window(7, 17)
    (read,) = windows_from_prometheus([asked], scraped(EVERY_2_S, steady()))
    replaced = {
        "output_tokens_per_s",
        "total_tokens_per_s",
        "requests_per_s",
        "source",
        "disagreement",
        "engine_mean_ms",
        "preemptions",
        "invalid",
    }
    assert read.model_dump(exclude=replaced) == asked.model_dump(exclude=replaced)


def test_ranks_are_summed_and_other_models_left_out() -> None:
    def rank(engine: str, model: str, rate: float) -> list[Series]:
        return [
            series(name, [(at, steady(rate)(at)) for at in EVERY_2_S], engine=engine, model_name=model)
            for name in (COUNTERS["generation_tokens"], COUNTERS["prompt_tokens"])
        ]

    requests = [series(COUNTERS["requests"], [(at, at) for at in EVERY_2_S], finished_reason="stop")]
    samples = rank("0", "m", 60) + rank("1", "m", 40) + rank("0", "other", 1000) + requests
    (read,) = windows_from_prometheus([window(7, 17)], samples, model="m")
    assert read.output_tokens_per_s == pytest.approx(100)


def test_a_series_that_appears_in_the_window_began_at_zero() -> None:
    samples = [one for one in scraped(EVERY_2_S, steady()) if one.name != COUNTERS["requests"]]
    late = series(COUNTERS["requests"], [(at, 1.0) for at in EVERY_2_S if at > 12], finished_reason="stop")
    (read,) = windows_from_prometheus([window(6.3, 16.3)], [*samples, late])
    assert read.requests_per_s == pytest.approx(0.1)


def test_a_window_the_runner_set_aside_is_passed_on_and_asks_for_nothing() -> None:
    aside = window(-500, -490, invalid="requests failed")
    read = windows_from_prometheus([aside, window(7, 17)], scraped(EVERY_2_S, steady()))
    assert read[0] == aside
    assert read[1].source == "prometheus"


def test_a_client_that_counted_less_than_any_reading_allows_marks_the_window() -> None:
    (read,) = windows_from_prometheus([window(4.3, 24.3, client=70)], scraped(EVERY_2_S, steady()))
    assert read.disagreement == pytest.approx(0.3)
    assert read.invalid is not None
    assert "Prometheus counted 100.0 output tokens/s and the load generator 70.0" in read.invalid


def test_scrapes_too_coarse_to_contradict_the_client_are_not_used_against_it() -> None:
    # The traffic stops at the window's end, in the middle of a scrape interval, as it does after every window.
    def stops(at: float) -> float:
        return 1000 + 100 * min(at, 24.0)

    with pytest.raises(Unreadable, match=r"too far apart for a window of 14 s.*durationSeconds"):
        windows_from_prometheus([window(10, 24, client=100)], scraped([0.0, 10.0, 20.0, 30.0, 40.0], stops))


@pytest.mark.parametrize(
    ("times", "error", "says"),
    [
        ([], NotYet, "scraped 0 time"),
        ([0.3], NotYet, "scraped 1 time"),
        ([at for at in EVERY_2_S if at < 17], NotYet, "last scrape of this pod"),
        ([at for at in EVERY_2_S if at > 7], Unreadable, "before the first scrape"),
        ([at for at in EVERY_2_S if not 4 < at < 12], Unreadable, "the target was down"),
        ([at for at in EVERY_2_S if not 13 < at < 22], Unreadable, "the target was down"),
    ],
)
def test_an_edge_without_scrapes_on_both_sides_is_not_guessed(
    times: list[float], error: type[Unreadable], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        windows_from_prometheus([window(7, 17)], scraped(times, steady()))
    assert caught.value.lasting is (error is not NotYet)


def test_one_failed_scrape_next_to_an_edge_does_no_harm() -> None:
    times = [at for at in EVERY_2_S if not 16 < at < 17]
    (read,) = windows_from_prometheus([window(7, 17)], scraped(times, steady()))
    assert read.output_tokens_per_s == pytest.approx(100)


def test_no_samples_at_all_may_still_come() -> None:
    with pytest.raises(NotYet, match="does not scrape it"):
        windows_from_prometheus([window(7, 17)], [])


def test_a_window_between_two_scrapes_is_not_read() -> None:
    with pytest.raises(Unreadable, match="no scrape fell into the window"):
        windows_from_prometheus([window(3, 9)], scraped([0, 10, 20, 30], steady()))


@pytest.mark.parametrize("name", [COUNTERS["generation_tokens"], COUNTERS["prompt_tokens"], COUNTERS["requests"]])
def test_a_counter_that_is_not_kept_is_named(name: str) -> None:
    samples = [one for one in scraped(EVERY_2_S, steady()) if one.name != name]
    with pytest.raises(Unreadable, match=f"{name} is missing"):
        windows_from_prometheus([window(7, 17)], samples)


def test_a_pod_with_nothing_of_vllm_lacks_its_counters() -> None:
    with pytest.raises(Unreadable, match=r"generation_tokens_total is missing"):
        windows_from_prometheus([window(7, 17)], [series(STARTED, [(at, 1.0) for at in EVERY_2_S])])


def resetting(at: float) -> float:
    return 100 * at + 1000 if at < 12 else 100 * (at - 12)


def test_a_counter_that_goes_backwards_in_the_window_is_a_restart() -> None:
    with pytest.raises(Restarted, match="engine was restarted"):
        windows_from_prometheus([window(7, 17)], scraped(EVERY_2_S, resetting))


def test_a_restart_outside_the_window_does_no_harm() -> None:
    (read,) = windows_from_prometheus([window(16.5, 26.5)], scraped(EVERY_2_S, resetting))
    assert read.output_tokens_per_s == pytest.approx(100)


def test_a_new_process_is_a_restart_even_when_its_counter_has_caught_up() -> None:
    samples = [one for one in scraped(EVERY_2_S, steady()) if one.name != STARTED]
    samples.append(series(STARTED, [(at, 1.0 if at < 12 else 2.0) for at in EVERY_2_S]))
    with pytest.raises(Restarted, match="its process started anew"):
        windows_from_prometheus([window(7, 17)], samples)


def test_a_rank_that_is_gone_is_a_restart() -> None:
    gone = series(COUNTERS["generation_tokens"], [(at, 5000.0) for at in EVERY_2_S if at < 12], engine="1")
    with pytest.raises(Restarted, match="went backwards"):
        windows_from_prometheus([window(7, 17)], [*scraped(EVERY_2_S, steady()), gone])


def test_two_pods_of_one_name_are_not_added_up() -> None:
    first = scraped([at for at in EVERY_2_S if at < 12], steady(), uid="a", instance="10.1.0.7:8000")
    second = scraped([at for at in EVERY_2_S if at > 12], steady(), uid="b", instance="10.1.0.9:8000")
    with pytest.raises(Restarted, match=r"replaced by another of its name.*10\.1\.0\.7.*10\.1\.0\.9"):
        windows_from_prometheus([window(7, 17)], first + second)
    (read,) = windows_from_prometheus([window(16, 26)], first + second)
    assert read.output_tokens_per_s == pytest.approx(100)


def test_two_targets_at_once_cannot_be_told_apart() -> None:
    samples = scraped(EVERY_2_S, steady(), instance="a:1") + scraped(EVERY_2_S, steady(), instance="b:1")
    with pytest.raises(Unreadable, match=r'two targets have this pod\'s name.*"a:1".*"b:1"'):
        windows_from_prometheus([window(7, 17)], samples)


def test_a_pod_that_two_jobs_scrape_is_counted_once_by_the_closer_record() -> None:
    coarse = scraped(EVERY_2_S[::2], steady(90), job="podmonitor")
    (read,) = windows_from_prometheus([window(7, 17)], coarse + scraped(EVERY_2_S, steady(), job="pods"))
    assert read.output_tokens_per_s == pytest.approx(100)


def test_a_sidecars_exporter_is_not_taken_for_an_engine() -> None:
    sidecar = series(STARTED, [(at, 9.0) for at in EVERY_2_S], instance="10.1.0.7:9100")
    (read,) = windows_from_prometheus([window(7, 17)], [*scraped(EVERY_2_S, steady()), sidecar])
    assert read.output_tokens_per_s == pytest.approx(100)


def at_most_two_intervals(times: Sequence[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(times))


@st.composite
def counters(draw: st.DrawFn) -> tuple[list[float], Mapping[float, float], float, float]:
    """Uneven scrapes of a counter that never falls, and a window with scrapes on both sides and inside."""
    gaps = draw(st.lists(st.integers(200, 4000), min_size=4, max_size=30))
    times = [0.0]
    for gap in gaps:
        times.append(round(times[-1] + gap / 1000, 3))
    values = {0.0: 50.0}
    for earlier, later in pairwise(times):
        values[later] = values[earlier] + draw(st.integers(0, 1000))
    inside = draw(st.integers(1, len(times) - 2))
    started = draw(st.floats(0, times[inside]))
    ended = draw(st.floats(times[inside], times[-1]).filter(lambda at: at - started > 0.05))
    return times, values, round(started, 3), round(ended, 3)


def piecewise(times: Sequence[float], values: Mapping[float, float]) -> Counter:
    def value(at: float) -> float:
        i = min(max(bisect_right(times, at) - 1, 0), len(times) - 2)
        low, high = times[i], times[i + 1]
        return values[low] + (values[high] - values[low]) * (at - low) / (high - low)

    return value


@given(counters())
def test_a_counter_that_rises_evenly_between_scrapes_gives_the_true_rate(
    drawn: tuple[list[float], Mapping[float, float], float, float],
) -> None:
    times, values, started, ended = drawn
    counter = piecewise(times, values)
    truth = (counter(ended) - counter(started)) / (ended - started)
    (read,) = windows_from_prometheus(
        [window(started, ended, client=truth)],
        scraped(times, lambda at: values[at]),
        scrape_interval_s=at_most_two_intervals(times),
    )
    assert read.output_tokens_per_s == pytest.approx(truth, rel=1e-3, abs=0.01)
    assert read.invalid is None or truth == 0


@given(counters(), st.floats(0, 3000))
def test_the_rate_stays_within_what_the_scrapes_bound(
    drawn: tuple[list[float], Mapping[float, float], float, float], client: float
) -> None:
    times, values, started, ended = drawn
    samples = scraped(times, lambda at: values[at])
    asked = [window(started, ended, client=client)]
    most = values[min(at for at in times if at >= ended)] - values[max(at for at in times if at <= started)]
    least = values[max(at for at in times if at <= ended)] - values[min(at for at in times if at >= started)]
    try:
        (read,) = windows_from_prometheus(asked, samples, scrape_interval_s=at_most_two_intervals(times))
    except Unreadable as error:
        assert "too far apart" in str(error)  # noqa: PT017
        return
    counted = read.output_tokens_per_s * (ended - started)
    assert least - 1e-3 * (1 + least) <= counted <= most + 1e-3 * (1 + most)
    assert (read.invalid is not None) == (read.disagreement > 0.1)
