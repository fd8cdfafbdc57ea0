"""Windows of a load test with round figures."""

from __future__ import annotations

from typing import Any

from haqa_contract import Latency, Window


def latency(mean: float) -> Latency:
    return Latency(mean=mean, p50=mean * 0.9, p90=mean * 1.2, p95=mean * 1.5, p99=mean * 2)


def window(concurrency: int, repeat: int, tokens_per_s: float, ms: float = 100.0, **more: Any) -> Window:
    fields: dict[str, Any] = {
        "concurrency": concurrency,
        "repeat": repeat,
        "started": 1000.0 + repeat,
        "ended": 1010.0 + repeat,
        "completed": 8,
        "failed": 0,
        "output_tokens_per_s": tokens_per_s,
        "total_tokens_per_s": 3 * tokens_per_s,
        "requests_per_s": tokens_per_s / 128,
        "ttft_ms": latency(ms),
        "itl_ms": latency(ms / 10),
        "tpot_ms": latency(ms / 11),
        "e2e_ms": latency(ms * 10),
        "source": "engine-metrics",
        "client_output_tokens_per_s": tokens_per_s,
        "disagreement": 0.0,
    }
    return Window(**{**fields, **more})
