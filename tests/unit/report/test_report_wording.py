import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import estimate

from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import MetricKey
from haqa_operator.report import glossary, wording


@pytest.mark.parametrize(
    ("key", "title", "short"),
    [
        ("throughput", "Throughput", "Throughput"),
        ("ttft.p95@8", "Time to first token, 95th percentile, 8 in flight", "TTFT p95 @8"),
        ("accuracy.arc_easy", "Accuracy on arc_easy", "Accuracy on arc_easy"),
        ("perplexity", "Perplexity", "Perplexity"),
        ("energy", "energy", "energy"),
    ],
)
def test_metrics_have_names_for_people(key: str, title: str, short: str) -> None:
    assert wording.metric_title(MetricKey.parse(key)) == title
    assert wording.metric_title(MetricKey.parse(key), short=True) == short


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("throughput", 203.44, "203.4 tokens/s"),
        ("ttft.p95", 240.0, "240 ms"),
        ("perplexity", 12.3612, "12.36"),
        ("topTokenAgreement", 0.9412, "94.1 %"),
        ("accuracy.arc_easy", 0.5, "50 %"),
        ("artifactBytes", 410 * 2**20, "410 MiB"),
        ("artifactBytes", 16.1e9, "15 GiB"),
        ("throughput", None, "–"),
    ],
)
def test_values_have_units_and_as_many_digits_as_make_sense(key: str, value: float | None, text: str) -> None:
    assert wording.value_text(MetricKey.parse(key), value) == text


def test_column_says_its_unit_once() -> None:
    key = MetricKey.parse("ttft.p95")
    assert (wording.column_unit(key), wording.number_text(key, 240.0)) == ("ms", "240")


def test_interval_names_the_unit_once() -> None:
    key = MetricKey.parse("throughput")
    assert wording.interval_text(key, estimate(200, 5)) == "95 % interval 195 to 205 tokens/s"
    assert wording.interval_text(key, estimate(200)) == ""


def test_interval_keeps_both_units_where_they_differ() -> None:
    sizes = estimate(1000 * 2**20, 300 * 2**20)
    assert wording.interval_text(MetricKey("artifactBytes"), sizes) == "95 % interval 700 MiB to 1.27 GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (48, "48 s"), (59.7, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (4321, "1 h 12 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration_text(seconds) == text


@given(st.floats(0, 1e7))
def test_no_duration_has_sixty_seconds_or_sixty_minutes(seconds: float) -> None:
    assert re.search(r"\b60 (s|min)\b", wording.duration_text(seconds)) is None


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Constraint(metric="perplexity", max_degradation_percent=2), "Perplexity: at most 2 % worse than the baseline"),
        (Constraint(metric="perplexity", max_degradation_percent=0), "Perplexity: no worse than the baseline"),
        (
            Constraint(metric="ttft", percentile=95, concurrency=8, max=600),
            "Time to first token, 95th percentile, 8 in flight: at most 600 ms",
        ),
        (
            Constraint(metric="throughput", min=100, max=900),
            "Throughput: at least 100 tokens/s and at most 900 tokens/s",
        ),
    ],
)
def test_limits_read_as_sentences(constraint: Constraint, text: str) -> None:
    assert wording.constraint_text(constraint) == text
    assert text.endswith(wording.limit_text(constraint))


@pytest.mark.parametrize(("value", "text"), [(1.0, "no change"), (1.0084, "+0.84 %"), (0.5, "−50 %")])
def test_changes_have_a_sign_that_is_a_minus(value: float, text: str) -> None:
    assert wording.change_text(value - 1) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0 %"), (0.001, "< 1 %"), (0.61, "61 %")])
def test_shares(share: float, text: str) -> None:
    assert wording.share_text(share) == text


def test_glossary_explains_each_word_once() -> None:
    keys = [term.key for term in glossary.TERMS]
    assert len(keys) == len(set(keys))
    assert glossary.explain("ttft").startswith("Time to first token")
    assert glossary.explain("no such word") == ""
