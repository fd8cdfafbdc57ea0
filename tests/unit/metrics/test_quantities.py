from __future__ import annotations

import pytest

from haqa_operator.api.metrics import MetricKey
from haqa_operator.metrics.quantities import quantity, signed_percent


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("throughput@8", 203.456, "203.5 tokens/s"),
        ("totalThroughput", 123456.7, "123457 tokens/s"),
        ("ttft.p95@1", 0.01234, "0.01234 ms"),
        ("requestRate", 1.5, "1.5 requests/s"),
        ("perplexity", 12.3456, "12.35"),
        ("column of a table", 3.0, "3"),
    ],
)
def test_a_number_is_given_with_its_unit(key: str, value: float, text: str) -> None:
    assert quantity(MetricKey.parse(key), value) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.013, "+1.3 %"), (-0.0004, "-0.04 %"), (0.214, "+21 %"), (1.5, "+150 %"), (0, "+0 %")]
)
def test_a_change_keeps_its_sign_and_two_digits(fraction: float, text: str) -> None:
    assert signed_percent(fraction) == text
