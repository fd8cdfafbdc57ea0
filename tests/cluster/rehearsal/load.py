"""The runner's load test against the rehearsal's engine: its windows, gates and statistics, in the engine's time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol, Self

import httpx
from tests.cluster.rehearsal.engine import CLOCK

from haqa_contract import AccuracyReport, Estimate, LoadReport, TrialReport, TrialRequest, Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.accuracy import check_gates
from haqa_runner.measure.capacity import CpuClock
from haqa_runner.measure.endpoint import Endpoint, connect, keep_requests_out_of_the_log
from haqa_runner.measure.engine_metrics import Reading, parse_metrics
from haqa_runner.measure.load import LoadTest
from haqa_runner.measure.prompts import Prompts, PromptSource
from haqa_runner.measure.traffic import SentRequest
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.serve.engine import base_url

_LIMIT_S = 120.0
_TOKENS = 100_000


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """As the runner's step `measure`; the engine says how accurate it is instead of being examined."""
    keep_requests_out_of_the_log()
    endpoint = connect(base_url(request.engine), request.engine.served_model_name)
    report = TrialReport(trial=request.trial, max_model_len=endpoint.max_model_len)
    with endpoint.client() as client:
        found = client.get("/simulated/accuracy").raise_for_status().json()
    metrics = {name: Estimate(value=value, low=value, high=value, n=1) for name, value in found.items()}
    report = report.model_copy(update={"accuracy": AccuracyReport(metrics=metrics, tokens=_TOKENS)})
    try:
        check_gates(request.gates, metrics)
        return report.model_copy(update={"load": asyncio.run(_load(endpoint, request, phases, progress))})
    except TrialFailure as failure:
        return report.model_copy(update={"failure": failure.failure})


async def _load(endpoint: Endpoint, request: TrialRequest, phases: Phases, progress: ProgressSink) -> LoadReport:
    async with httpx.AsyncClient(base_url=endpoint.base_url, timeout=_LIMIT_S, trust_env=False) as client:
        return await load_test(PlayedInPod(client), endpoint, request, phases).windows(progress)


def load_test(played: Played, endpoint: Endpoint, request: TrialRequest, phases: Phases) -> LoadTest:
    """The runner's own, whose traffic and metrics are the played engine's."""
    workload = request.workload
    return LoadTest(
        endpoint,
        workload,
        PromptSource((0, 0), (), (), (0,), workload.input_tokens, workload.seed),
        phases,
        open_generator=lambda endpoint, workload: SimulatedGenerator(played, workload),
        open_metrics=lambda endpoint: SimulatedMetrics(played, endpoint.model),
        clock=lambda: played.now,
        gates=request.load_gates,
    )


class Played(Protocol):
    """The rehearsal's engine, wherever it is.

    Attributes:
        now: Its time, in Unix seconds, at its last answer.
    """

    @property
    def now(self) -> float: ...

    async def metrics(self) -> str: ...

    async def open(self, streams: int, prompt: int, wanted: int) -> None: ...

    async def until(self, answered: int) -> list[dict[str, Any]]:
        """The requests that ended on the way: when each started, and when its tokens came."""
        ...

    async def close(self) -> list[dict[str, Any]]:
        """The requests that were cancelled."""
        ...


class PlayedInPod(Played):
    """By HTTP."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client, self._now = client, time.time()

    @property
    def now(self) -> float:
        return self._now

    async def metrics(self) -> str:
        return self._heard(await self._client.get("/metrics")).text

    async def open(self, streams: int, prompt: int, wanted: int) -> None:
        await self._post("open", {"streams": streams, "input_tokens": prompt, "output_tokens": wanted})

    async def until(self, answered: int) -> list[dict[str, Any]]:
        ended: list[dict[str, Any]] = (await self._post("until", {"answered": answered}))["ended"]
        return ended

    async def close(self) -> list[dict[str, Any]]:
        cancelled: list[dict[str, Any]] = (await self._post("close", {}))["cancelled"]
        return cancelled

    async def _post(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._heard(await self._client.post(f"/simulated/{what}", json=body)).json()
        return answer

    def _heard(self, response: httpx.Response) -> httpx.Response:
        self._now = float(response.raise_for_status().headers[CLOCK])
        return response


class SimulatedMetrics:
    """A `Metrics` that reads at the engine's own time."""

    def __init__(self, played: Played, model: str) -> None:
        self._played, self._model = played, model

    async def read(self) -> Reading:
        text = await self._played.metrics()
        return parse_metrics(text, self._model, at=self._played.now)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class SimulatedGenerator:
    """A `Generator` that is always at ease: what it sends is made inside the engine."""

    played: Played
    workload: Workload
    most = 1

    def open(self, prompts: Prompts, streams: int, processes: int) -> SimulatedTraffic:
        return SimulatedTraffic(self.played, self.workload, streams)

    def close(self) -> None:
        """There are no processes."""


class SimulatedTraffic:
    """A `Traffic`: a closed loop inside the engine, played as far as a window wants it."""

    processes = 1
    clocks: tuple[CpuClock, ...] = ()

    def __init__(self, played: Played, workload: Workload, streams: int) -> None:
        self.sent: list[SentRequest] = []
        self.answered = self.failed = 0
        self._played, self._workload, self._streams = played, workload, streams

    async def __aenter__(self) -> Self:
        await self._played.open(self._streams, self._workload.input_tokens, self._workload.output_tokens)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sent += [_sent(one, self._played.now, cancelled=True) for one in await self._played.close()]

    async def until(self, answered: int, failed: int) -> None:
        if self.answered >= answered:
            return
        ended = await self._played.until(answered)
        self.sent += [_sent(one, one["arrivals"][-1], cancelled=False) for one in ended]
        self.answered += len(ended)


def _sent(one: dict[str, Any], ended: float, *, cancelled: bool) -> SentRequest:
    arrivals = tuple((at, 1) for at in one["arrivals"])
    return SentRequest(one["started"], ended, arrivals, one["prompt"], None, cancelled)
