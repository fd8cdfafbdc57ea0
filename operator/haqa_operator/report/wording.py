"""Numbers, metrics and times as a person reads them who has never seen the field's abbreviations."""

from __future__ import annotations

from datetime import UTC, datetime

from haqa_contract import Estimate
from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import ADAPTER, MetricKey
from haqa_operator.metrics.quantities import quantity, signed_percent, unit

_TITLES = {
    "throughput": "Throughput",
    "totalThroughput": "Total throughput",
    "requestRate": "Requests served",
    "throughputPerCost": "Tokens for the money",
    "ttft": "Time to first token",
    "itl": "Time between tokens",
    "tpot": "Time per output token",
    "e2e": "Time for a whole request",
    "perplexity": "Perplexity",
    "perplexityRatio": "Perplexity against the baseline",
    "klDivergence": "KL divergence",
    "topTokenAgreement": "Same most likely token",
    "artifactBytes": "Size on disk",
}

_SHORT = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}

_SHARES = ("topTokenAgreement",)

NOT_MEASURED = "–"


def metric_title(key: MetricKey, *, short: bool = False) -> str:
    """`Time to first token, 95th percentile, 8 in flight`; short: `TTFT p95 @8`."""
    metric = key.metric
    if metric.startswith(ADAPTER):
        title = f"Perplexity through adapter {metric.removeprefix(ADAPTER)}"
    elif metric.startswith("accuracy."):
        title = f"Accuracy on {metric.removeprefix('accuracy.')}"
    else:
        title = (_SHORT if short else {}).get(metric) or _TITLES.get(metric, metric)
    if short:
        percentile = f" p{key.percentile}" if key.percentile is not None else ""
        level = f" @{key.concurrency}" if key.concurrency is not None else ""
        return f"{title}{percentile}{level}"
    percentile = f", {key.percentile}th percentile" if key.percentile is not None else ""
    level = f", {key.concurrency} in flight" if key.concurrency is not None else ""
    return f"{title}{percentile}{level}"


def constraint_text(constraint: Constraint) -> str:
    """`Time to first token, 95th percentile, 8 in flight: at most 600 ms`."""
    title = metric_title(constraint.key)
    if constraint.max_degradation_percent is not None:
        percent = constraint.max_degradation_percent
        return f"{title}: {f'at most {percent:g} % worse than' if percent else 'no worse than'} the baseline"
    bounds = [
        f"at least {value_text(constraint.key, constraint.min)}" if constraint.min is not None else "",
        f"at most {value_text(constraint.key, constraint.max)}" if constraint.max is not None else "",
    ]
    return f"{title}: {' and '.join(filter(None, bounds))}"


def limit_text(constraint: Constraint) -> str:
    """The same without the metric: `at most 600 ms`."""
    return constraint_text(constraint).removeprefix(f"{metric_title(constraint.key)}: ")


def value_text(key: MetricKey, value: float | None) -> str:
    """The value with its unit: `203.4 tokens/s`, `391 MiB`, `94.1 %`."""
    if value is None:
        return NOT_MEASURED
    if key.metric == "artifactBytes":
        return bytes_text(value)
    if _is_share(key.metric):
        return f"{value * 100:.3g} %"
    return quantity(key, value)


def number_text(key: MetricKey, value: float | None) -> str:
    """The value alone, for a column whose heading has the unit (`column_unit`)."""
    unit_of_column = column_unit(key)
    return value_text(key, value).removesuffix(f" {unit_of_column}") if unit_of_column else value_text(key, value)


def column_unit(key: MetricKey) -> str:
    """The unit that all values of a metric share; sizes have none, since each chooses its own."""
    if key.metric == "artifactBytes":
        return ""
    return "%" if _is_share(key.metric) else unit(key.metric)


def _is_share(metric: str) -> bool:
    return metric in _SHARES or metric.startswith("accuracy.")


def interval_text(key: MetricKey, estimate: Estimate) -> str:
    """`95 % interval 198 to 209 tokens/s`; empty where one repeat cannot give one."""
    if estimate.low == estimate.high:
        return ""
    low = value_text(key, estimate.low)
    high = value_text(key, estimate.high)
    number, _, its_unit = low.partition(" ")
    # The unit once, after the second number; kept twice where the two differ (900 KiB to 1.1 MiB).
    return f"95 % interval {number if high.endswith(its_unit) else low} to {high}"


def ratio_text(ratio: Estimate | None) -> str:
    """`1.62×`."""
    return factor_text(ratio.value) if ratio is not None else NOT_MEASURED


def factor_text(value: float) -> str:
    return f"{value:.2f}×" if value < 9.995 else f"{value:.3g}×"


def ratio_interval_text(ratio: Estimate | None) -> str:
    if ratio is None or ratio.low == ratio.high:
        return ""
    return f"95 % interval {factor_text(ratio.low)} to {factor_text(ratio.high)}"


def change_text(fraction: float) -> str:
    """`+0.84 %`; `no change` for exactly none."""
    return _signed(fraction) if fraction else "no change"


def change_interval_text(ratio: Estimate) -> str:
    """The interval of a change, from that of the ratio: `95 % interval +0.7 % to +1 %`."""
    if ratio.low == ratio.high:
        return ""
    return f"95 % interval {_signed(ratio.low - 1)} to {_signed(ratio.high - 1)}"


def _signed(fraction: float) -> str:
    """With a real minus, which is as wide as the plus."""
    return signed_percent(fraction).replace("-", "−")


def share_text(share: float) -> str:
    """`8 %`, `< 1 %`: a share of a whole."""
    return "< 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def duration_text(seconds: float) -> str:
    """`0.4 s`, `48 s`, `3 min 20 s`, `1 h 12 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def bytes_text(value: float) -> str:
    """Binary units, three significant digits: `391 MiB`."""
    for binary in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.3g} {binary}"
        value /= 1024
    return f"{value:.3g} TiB"


def count_text(number: int, noun: str) -> str:
    """`1 trial`, `12 trials`, `34,120 tokens`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def list_text(items: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def date_text(unix: float) -> str:
    """UTC, so that the page says the same wherever it is read."""
    return datetime.fromtimestamp(unix, UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0")
