"""What Prometheus has scraped of an engine, and the windows it was measured in; times are seconds after `T0`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from haqa_contract import Latency, Window
from haqa_contract.engine_metrics import COUNTERS, HISTOGRAMS, STARTED
from haqa_operator.metrics.prometheus_series import Series

T0 = 1_800_000_000.0
LATENCY = Latency(mean=1, p50=1, p90=2, p95=3, p99=4)
Counter = Callable[[float], float]


def window(started: float, ended: float, client: float = 100.0, **more: object) -> Window:
    fields: dict[str, object] = {
        "concurrency": 8,
        "repeat": 0,
        "started": T0 + started,
        "ended": T0 + ended,
        "completed": 8,
        "failed": 0,
        "output_tokens_per_s": 1.0,
        "total_tokens_per_s": 2.0,
        "requests_per_s": 3.0,
        **dict.fromkeys(("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"), LATENCY),
        "source": "engine-metrics",
        "client_output_tokens_per_s": client,
        "disagreement": 0.0,
        "engine_mean_ms": {"ttft": 1.0},
        "peak_kv_cache_usage": 0.5,
        "saturated": True,
    }
    return Window.model_validate(fields | more)


def series(name: str, points: Sequence[tuple[float, float]], **labels: str) -> Series:
    target = {"instance": "10.1.0.7:8000", "job": "pods"}
    return Series(
        name, {"__name__": name, **target, **labels}, tuple((round(T0 + at, 3), value) for at, value in points)
    )


def scraped(times: Sequence[float], output: Counter, started: float = 1.0, **labels: str) -> list[Series]:
    """An engine whose other counters follow the output tokens."""

    def one(name: str, factor: float, **more: str) -> Series:
        return series(name, [(at, factor * output(at)) for at in times], **labels, **more)

    histograms = [
        one(f"{name}_{part}", factor)
        for name, mean_s in zip(HISTOGRAMS.values(), (0.2, 0.01, 1.5, 0.05), strict=True)
        for part, factor in (("sum", mean_s), ("count", 1.0))
    ]
    return [
        one(COUNTERS["generation_tokens"], 1.0, model_name="m", engine="0"),
        one(COUNTERS["prompt_tokens"], 2.0, model_name="m", engine="0"),
        one(COUNTERS["requests"], 0.01, finished_reason="length"),
        one(COUNTERS["requests"], 0.02, finished_reason="stop"),
        one(COUNTERS["requests"], 5.0, finished_reason="abort"),
        one(COUNTERS["preemptions"], 0.02),
        *histograms,
        series(STARTED, [(at, started) for at in times], **labels),
    ]


def steady(rate: float = 100.0) -> Counter:
    return lambda at: 1000 + rate * (at + 100)


EVERY_2_S = [0.3 + 2 * i for i in range(20)]
