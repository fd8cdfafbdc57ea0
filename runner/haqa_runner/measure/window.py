"""One measuring window: which part of a stretch of traffic counts, and what is made of it.

Where a window begins and ends decides what tokens/s mean. Timing a batch of requests from the first start to the last
end counts the ramp (every prompt at once, nothing decoding) and the drain (fewer and fewer in flight): with 4 requests
a stream that is a tenth or more of the time, and not the load that was asked for. Here the traffic is a closed loop
that goes on before, during and after the window:

- *ramp*: every stream's first request (or its warm-up requests) is not counted; after it the streams are where they
  would be after an hour.
- *begin*: the completion of a request. The engine's counters are read.
- *end*: the completion of a request again, a whole number of rounds (requests / streams) later. The counters are read.
- the requests then in flight are cancelled.

Both edges lie at the same phase of the streams' cycle, so what was half done at the beginning and what is half done at
the end cancel out in the mean (a regenerative estimate), also when all streams march in step, as they do with equal
lengths. Tokens are counted by the engine at each step, so requests that cross an edge are counted in part, as they
should be. What remains is at most one engine step at each edge, and the time the reading takes, on both sides alike.

Latencies are those of the requests that ended inside the window, all of which started under full load.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

from haqa_contract import Latency, Window
from haqa_contract.engine_metrics import DISAGREEMENT_LIMIT
from haqa_contract.failures import TrialFailure
from haqa_contract.statistics import quantile
from haqa_runner.measure.capacity import NO_EFFORT, Effort, effort
from haqa_runner.measure.engine_metrics import Metrics, Reading, difference
from haqa_runner.measure.traffic import SentRequest, Traffic

_SAMPLE_S = 0.5
"""Between two looks at the gauges: each costs the engine's API process some 5 ms."""


@dataclass(frozen=True)
class Plan:
    """How long one window is.

    Attributes:
        streams: Requests in flight.
        ramp_rounds: Rounds before the window that are not counted.
        rounds: Length of the window, at least.
        duration_s: The window goes on, by whole rounds, until it is this long; None = `rounds` are enough.
        tolerated_failures: More end the window at once.
    """

    streams: int
    ramp_rounds: int
    rounds: int
    duration_s: float | None = None
    tolerated_failures: int = 0


@dataclass(frozen=True)
class Observed:
    """Everything that was recorded of one window.

    Attributes:
        began: When the traffic did.
        before, after: The engine's counters at the window's edges.
        sent: All requests, those of the ramp and the cancelled ones too.
        gauges: Looks at the engine in between.
        client: How hard the load generator had to work.
    """

    plan: Plan
    began: float
    before: Reading
    after: Reading
    sent: tuple[SentRequest, ...]
    gauges: tuple[Reading, ...] = ()
    client: Effort = NO_EFFORT

    @property
    def inside(self) -> tuple[SentRequest, ...]:
        """Requests that ended in the window, answered or failed."""
        edges = self.before.at, self.after.at
        return tuple(r for r in self.sent if not r.cancelled and edges[0] < r.ended <= edges[1])

    @property
    def failures(self) -> tuple[SentRequest, ...]:
        """Requests that failed at any time, in the ramp too."""
        return tuple(r for r in self.sent if r.error is not None)


async def observe(traffic: Traffic, metrics: Metrics, plan: Plan, clock: Callable[[], float] = time.time) -> Observed:
    """Runs one window with traffic that has not been started.

    Returns early, with the second reading where it got to, when more than `plan.tolerated_failures` requests fail.

    Raises:
        TrialFailure: the metrics cannot be read.
    """
    began = clock()
    async with traffic, _Gauges(metrics) as gauges:
        await traffic.until(plan.ramp_rounds * plan.streams, plan.tolerated_failures)
        before = await metrics.read()
        clocks = traffic.clocks
        target = traffic.answered
        for played in count():
            if played >= plan.rounds and (plan.duration_s is None or clock() - before.at >= plan.duration_s):
                break
            if traffic.failed > plan.tolerated_failures:
                break
            target += plan.streams
            await traffic.until(target, plan.tolerated_failures)
        after = await metrics.read()
        client = effort(clocks, traffic.clocks, traffic.processes)
    seen = tuple(reading for reading in gauges.readings if before.at <= reading.at <= after.at)
    return Observed(plan, began, before, after, tuple(traffic.sent), seen, client)


def window_of(observed: Observed, repeat: int) -> Window:
    """The window's figures.

    Raises:
        TrialFailure: the engine was restarted in between.
        ValueError: no request was answered in the window.
    """
    engine = difference(observed.before, observed.after)
    answered = [request for request in observed.inside if request.answered]
    if not answered:
        raise ValueError("no request was answered in the window")
    began, ended = observed.before.at, observed.after.at
    engine_rate = engine.generation_tokens / engine.seconds
    client_rate = _tokens_between(observed.sent, began, ended) / engine.seconds
    disagreement = abs(engine_rate - client_rate) / engine_rate if engine_rate > 0 else 1.0
    return Window(
        concurrency=observed.plan.streams,
        repeat=repeat,
        started=began,
        ended=ended,
        completed=len(answered),
        failed=len(observed.inside) - len(answered),
        output_tokens_per_s=engine_rate,
        total_tokens_per_s=(engine.generation_tokens + engine.prompt_tokens) / engine.seconds,
        requests_per_s=engine.requests / engine.seconds,
        ttft_ms=_latency([1000 * (request.arrivals[0][0] - request.started) for request in answered]),
        itl_ms=_latency([gap for request in answered for gap in _gaps_ms(request)]),
        tpot_ms=_latency([time_ms for request in answered for time_ms in _tpot_ms(request)]),
        e2e_ms=_latency([1000 * (request.ended - request.started) for request in answered]),
        source="engine-metrics",
        client_output_tokens_per_s=client_rate,
        disagreement=disagreement,
        engine_mean_ms=dict(engine.mean_ms),
        preemptions=engine.preemptions,
        peak_kv_cache_usage=_peak(observed),
        saturated=_saturated(observed.gauges),
        invalid=observed.client.objection or _objection(engine_rate, client_rate, disagreement),
    )


def prefix_cache_share(observed: Observed) -> float:
    """Share of the window's prompt tokens that the engine did not have to compute."""
    engine = difference(observed.before, observed.after)
    return engine.cached_prompt_tokens / engine.prompt_tokens if engine.prompt_tokens > 0 else 0.0


def _tokens_between(sent: Sequence[SentRequest], began: float, ended: float) -> int:
    return sum(tokens for request in sent for at, tokens in request.arrivals if began < at <= ended)


def _gaps_ms(request: SentRequest) -> Iterator[float]:
    """Time between tokens. Tokens that come together (speculation, a busy client) share the time they took."""
    for (previous, _), (at, tokens) in zip(request.arrivals, request.arrivals[1:], strict=False):
        yield from [1000 * (at - previous) / tokens] * tokens


def _tpot_ms(request: SentRequest) -> Iterator[float]:
    """Time per output token after the first, as vLLM's benchmark defines it; none where there is no second token."""
    first, last = request.arrivals[0][0], request.arrivals[-1][0]
    if request.output_tokens > 1:
        yield 1000 * (last - first) / (request.output_tokens - 1)


def _latency(samples_ms: Sequence[float]) -> Latency:
    """Percentiles of the samples themselves; NaN without any: with one output token there is no time between tokens."""
    samples = samples_ms or [math.nan]
    p50, p90, p95, p99 = (quantile(samples, share) for share in (0.5, 0.9, 0.95, 0.99))
    return Latency(mean=sum(samples) / len(samples), p50=p50, p90=p90, p95=p95, p99=p99)


def _peak(observed: Observed) -> float | None:
    usages = [r.kv_cache_usage for r in (*observed.gauges, observed.before, observed.after)]
    return max((usage for usage in usages if usage is not None), default=None)


def _saturated(gauges: Sequence[Reading]) -> bool:
    """Requests waited in the engine at more than half of the looks: a request that waits for one step is no queue."""
    waiting = sum(reading.waiting > 0 for reading in gauges)
    return 2 * waiting > len(gauges)


def _objection(engine_rate: float, client_rate: float, disagreement: float) -> str | None:
    if disagreement <= DISAGREEMENT_LIMIT:
        return None
    return (
        f"the engine counted {engine_rate:.1f} output tokens/s and the load generator {client_rate:.1f}: they differ "
        f"by {disagreement:.0%}; something else uses the engine, or one of the two was starved"
    )


@dataclass
class _Gauges:
    """Looks at the engine's gauges in the background."""

    metrics: Metrics
    readings: list[Reading] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            try:
                self.readings.append(await self.metrics.read())
            except TrialFailure:
                # The window's own readings say so in words if it lasts.
                continue
