"""The engine's own counters, gauges and histograms: read from /metrics, and what two readings say together.

vLLM counts every token at the step that makes it, so the difference of two readings over the time between them is its
throughput whatever the clients were doing at the edges; that is the record. Its histogram buckets, though, are far too
coarse for percentiles (inter-token latency: 10, 25, 50, 75 ms, ...), so of them only sums and counts are used.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx
from prometheus_client.parser import text_string_to_metric_families

from haqa_contract import FailureReason
from haqa_contract.engine_metrics import COUNTERS, FINISHED, HISTOGRAMS, STARTED, sums_and_counts
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.measure.endpoint import Endpoint

_COUNTERS = {**COUNTERS, "cached_prompt_tokens": "vllm:prompt_tokens_cached_total"}
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_CACHE_USAGE = "vllm:kv_cache_usage_perc"
_REQUIRED = ("generation_tokens", "prompt_tokens")
_OF_INTEREST = (
    *_COUNTERS.values(),
    *sums_and_counts(),
    _RUNNING,
    _WAITING,
    _CACHE_USAGE,
    STARTED,
)
SCRAPE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Reading:
    """One look at /metrics, summed over the engine's data-parallel ranks.

    Attributes:
        at: Unix time of the reading: halfway between question and answer.
        counters: By the short names above, and `requests` for finished ones.
        sums, counts: Of the histograms, by their short names; sums in seconds.
        running, waiting: Requests in the engine at that moment.
        kv_cache_usage: Share of the fullest rank's KV cache in use.
        process_started: Unix time; changes when the engine is restarted. None where it is not exported.
    """

    at: float
    counters: Mapping[str, float]
    sums: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    running: float = 0
    waiting: float = 0
    kv_cache_usage: float | None = None
    process_started: float | None = None


@dataclass(frozen=True)
class Difference:
    """What the engine did between two readings.

    Attributes:
        seconds: Time between them.
        mean_ms: Means of the histograms over what they observed in between; absent where that is nothing.
    """

    seconds: float
    generation_tokens: float
    prompt_tokens: float
    cached_prompt_tokens: float
    requests: float
    preemptions: int
    mean_ms: Mapping[str, float]


def parse_metrics(text: str, model: str, at: float) -> Reading:
    """Reads the Prometheus text format. Series of other models served by the same process are left out.

    Raises:
        TrialFailure: the counters that throughput is computed from are missing (MetricsMissing).
    """
    totals: dict[str, float] = {}
    fullest: float | None = None
    for name, labels, value in _samples(text):
        if labels.get("model_name", model) != model:
            continue
        if name == _CACHE_USAGE:
            fullest = value if fullest is None else max(fullest, value)
        elif name != COUNTERS["requests"] or labels.get("finished_reason") in FINISHED:
            totals[name] = totals.get(name, 0.0) + value
    missing = [COUNTERS[name] for name in _REQUIRED if COUNTERS[name] not in totals]
    if missing:
        raise TrialFailure(
            FailureReason.METRICS_MISSING,
            f"the engine's /metrics has no {missing[0]} for {model}; throughput cannot be measured: take "
            "disable-log-stats out of the engine's settings, and check that this is vLLM 0.9 or newer",
        )
    counters = {short: totals.get(name, 0.0) for short, name in _COUNTERS.items()}
    return Reading(
        at=at,
        counters=counters,
        sums={short: totals[f"{name}_sum"] for short, name in HISTOGRAMS.items() if f"{name}_sum" in totals},
        counts={short: totals[f"{name}_count"] for short, name in HISTOGRAMS.items() if f"{name}_count" in totals},
        running=totals.get(_RUNNING, 0.0),
        waiting=totals.get(_WAITING, 0.0),
        kv_cache_usage=fullest,
        process_started=totals.get(STARTED),
    )


def difference(before: Reading, after: Reading) -> Difference:
    """What happened between two readings.

    Raises:
        TrialFailure: the engine was restarted in between, or its counters went backwards (EngineLoadFailed).
    """
    restarted = before.process_started != after.process_started
    backwards = [name for name, value in before.counters.items() if after.counters.get(name, 0.0) < value]
    if restarted or backwards:
        raise TrialFailure(
            FailureReason.ENGINE_LOAD_FAILED,
            "the engine was restarted in the middle of a measurement ("
            + ("its process started anew" if restarted else f"{backwards[0]} went backwards")
            + "); its log says why it ended",
        )
    change = {name: after.counters[name] - value for name, value in before.counters.items()}
    means: dict[str, float] = {}
    for name, count in after.counts.items():
        observed = count - before.counts.get(name, 0.0)
        if observed > 0:
            means[name] = 1000 * (after.sums[name] - before.sums.get(name, 0.0)) / observed
    return Difference(
        seconds=after.at - before.at,
        generation_tokens=change["generation_tokens"],
        prompt_tokens=change["prompt_tokens"],
        cached_prompt_tokens=change["cached_prompt_tokens"],
        requests=change["requests"],
        preemptions=round(change["preemptions"]),
        mean_ms=means,
    )


class Metrics(Protocol):
    """An engine's metrics, to be read again and again."""

    async def read(self) -> Reading: ...

    async def close(self) -> None: ...


class MetricsReader:
    """Reads one engine's /metrics."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._client = httpx.AsyncClient(base_url=endpoint.base_url, timeout=SCRAPE_TIMEOUT_S, trust_env=False)

    async def read(self) -> Reading:
        """Raises TrialFailure (MetricsMissing): no answer, an error, or not what vLLM exports."""
        asked = time.time()
        try:
            response = await self._client.get("/metrics")
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise TrialFailure(
                FailureReason.METRICS_MISSING,
                f"the engine's /metrics cannot be read ({cause_of(error)}); the engine has ended or is too busy to "
                f"answer",
            ) from error
        return parse_metrics(response.text, self._model, at=(asked + time.time()) / 2)

    async def close(self) -> None:
        await self._client.aclose()


def _samples(text: str) -> Iterable[tuple[str, dict[str, str], float]]:
    """The series that matter. Parsing all six hundred lines would take longer than the engine's next few tokens."""
    kept = "\n".join(line for line in text.splitlines() if line.startswith(_OF_INTEREST))
    for family in text_string_to_metric_families(kept + "\n"):
        for sample in family.samples:
            if sample.name in _OF_INTEREST:
                yield sample.name, sample.labels, sample.value
