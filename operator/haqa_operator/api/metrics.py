"""Names of measured numbers: `throughput`, `throughput@8`, `ttft.p95@1`, `perplexity`, `accuracy.arc_easy`.

Without `@concurrency` a serving metric stands for all levels of the workload: throughput is the geometric mean over
the levels (each level weighs the same, whatever its size), a latency is that of its worst level.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from haqa_contract import figures

LATENCIES = figures.LATENCIES
"""Time to first token, inter-token latency, time per output token, end to end; all in milliseconds."""
PERCENTILES = figures.PERCENTILES
RATES = (*figures.RATES, "throughputPerCost")
"""What a window has per second, and output tokens per unit of cost."""
ACCURACY_LOWER_IS_BETTER = ("perplexity", "klDivergence")
ACCURACY_HIGHER_IS_BETTER = ("topTokenAgreement",)
SIZES = ("artifactBytes",)
ADAPTER = "adapter."
"""With the name of an adapter: perplexity of held-out text through it."""

_KEY = re.compile(r"^(?P<metric>[A-Za-z][\w.\-/ ]*?)(?:\.p(?P<percentile>\d{1,2}))?(?:@(?P<concurrency>\d+))?$")


@dataclass(frozen=True)
class MetricKey:
    """A metric, the percentile (latencies; none = mean) and the concurrency (none = over all levels)."""

    metric: str
    percentile: int | None = None
    concurrency: int | None = None

    def __str__(self) -> str:
        text = self.metric
        if self.percentile is not None:
            text += f".p{self.percentile}"
        if self.concurrency is not None:
            text += f"@{self.concurrency}"
        return text

    @classmethod
    def parse(cls, text: str) -> MetricKey:
        match = _KEY.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not a metric; write one like throughput, throughput@8 or ttft.p95@1")
        percentile, concurrency = match["percentile"], match["concurrency"]
        return cls(match["metric"], int(percentile) if percentile else None, int(concurrency) if concurrency else None)

    def at(self, concurrency: int | None) -> MetricKey:
        return replace(self, concurrency=concurrency)


def known_metric(metric: str) -> bool:
    """Whether HAQA itself measures this metric (a replayed table may have others)."""
    return metric in (*LATENCIES, *RATES, *ACCURACY_LOWER_IS_BETTER, *ACCURACY_HIGHER_IS_BETTER, *SIZES) or (
        metric.startswith(("accuracy.", ADAPTER)) and not metric.endswith(".")
    )


def is_accuracy(metric: str) -> bool:
    named = (*ACCURACY_LOWER_IS_BETTER, *ACCURACY_HIGHER_IS_BETTER)
    return metric in named or metric.startswith(("accuracy.", ADAPTER))


def higher_is_better(metric: str) -> bool | None:
    """Direction of a known metric; None for a table's own, which has to be given."""
    if metric in (*RATES, *ACCURACY_HIGHER_IS_BETTER) or metric.startswith("accuracy."):
        return True
    if metric in (*LATENCIES, *ACCURACY_LOWER_IS_BETTER, *SIZES) or metric.startswith(ADAPTER):
        return False
    return None
