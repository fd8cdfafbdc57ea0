"""An engine with traffic in front of it, simulated in virtual time: what a window measures against what is true.

Prefills run one after the other and hold up everything else; a decode step gives every other request one token. With
`streams` requests always in flight, each of `output_tokens`, a request therefore takes
`streams * prefill_s + output_tokens * step_s`, in whatever order things happen.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from haqa_contract import Workload
from haqa_runner.measure.capacity import CpuClock
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.engine_metrics import Reading
from haqa_runner.measure.prompts import Prompts
from haqa_runner.measure.traffic import SentRequest

Result = TypeVar("Result")


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


def run_in_virtual_time(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine whose sleeps take no time; `asyncio.get_running_loop().time()` is its clock."""
    selector = _JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]  # a clock cannot be passed in
    try:
        return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


def virtual_clock() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class _Flight:
    """A request in the engine."""

    started: float
    wanted: int
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: str | None = None


@dataclass
class SimulatedEngine:
    """Is its own metrics.

    Attributes:
        miscount: Factor between tokens made and tokens counted, by the number of the window (from 0).
        fails: Whether the nth request (from 0) fails.
        restart_at: Virtual second from which the process is another one.
        slots: Requests that run at once; the others wait.
        slowdown: Factor on all times at a virtual second: drift.
        interleaved: A decode step after every prefill, so that streams do not march in step.
        most: CPUs that the load generator has.
        work: Share of a core that it needs in all, by the number of the window; shared evenly by its processes.
    """

    prefill_s: float = 0.05
    step_s: float = 0.01
    miscount: Any = lambda window: 1.0
    fails: Any = lambda number: False
    restart_at: float = float("inf")
    slots: int = 1_000
    slowdown: Any = lambda now: 1.0
    interleaved: bool = False
    most: int = 1
    work: Any = lambda window: 0.0
    waiting: list[_Flight] = field(default_factory=list)
    active: list[_Flight] = field(default_factory=list)
    made: float = 0.0
    prompted: float = 0.0
    finished: int = 0
    requests: int = 0
    windows: int = -1
    processes: list[int] = field(default_factory=list)
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    def rate(self, streams: int, output_tokens: int) -> float:
        """The true tokens/s with that many requests always in flight."""
        return streams * output_tokens / (streams * self.prefill_s + output_tokens * self.step_s)

    async def read(self) -> Reading:
        now = virtual_clock()
        return Reading(
            at=now,
            counters={
                "generation_tokens": self.made,
                "prompt_tokens": self.prompted,
                "cached_prompt_tokens": 0.0,
                "preemptions": 0.0,
                "requests": float(self.finished),
            },
            running=len(self.active),
            waiting=len(self.waiting) - min(len(self.waiting), self.slots - len(self.active)),
            kv_cache_usage=len(self.active) / 100,
            process_started=1.0 if now < self.restart_at else 2.0,
        )

    async def close(self) -> None:
        """Nothing is open."""

    def open_metrics(self, endpoint: Endpoint) -> SimulatedEngine:
        return self

    def open_generator(self, endpoint: Endpoint, workload: Workload) -> SimulatedGenerator:
        return SimulatedGenerator(self, workload)

    def submit(self, wanted: int, prompt: Sequence[int]) -> _Flight:
        flight = _Flight(virtual_clock(), wanted)
        self.prompts.append(tuple(prompt))
        self.prompted += len(prompt)
        if self.fails(self.requests):
            flight.error = "HTTP 500 Internal Server Error"
            flight.done.set()
        else:
            self.waiting.append(flight)
        self.requests += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return flight

    def cancel(self, flight: _Flight) -> None:
        for queue in (self.waiting, self.active):
            if flight in queue:
                queue.remove(flight)

    async def _work(self) -> None:
        while self.waiting or self.active:
            pace = self.slowdown(virtual_clock())
            if self.waiting and len(self.active) < self.slots:
                flight = self.waiting.pop(0)
                self.active.append(flight)
                await asyncio.sleep(self.prefill_s * pace)
                if not self.interleaved:
                    continue
            await asyncio.sleep(self.step_s * pace)
            now = virtual_clock()
            for flight in list(self.active):
                flight.arrivals.append((now, 1))
                self.made += self.miscount(self.windows)
                if len(flight.arrivals) == flight.wanted:
                    self.active.remove(flight)
                    self.finished += 1
                    flight.done.set()


@dataclass(frozen=True)
class SimulatedGenerator:
    """A `Generator`."""

    engine: SimulatedEngine
    workload: Workload

    @property
    def most(self) -> int:
        return self.engine.most

    def open(self, prompts: Prompts, streams: int, processes: int) -> SimulatedTraffic:
        self.engine.windows += 1
        self.engine.processes.append(processes)
        return SimulatedTraffic(self.engine, self.workload.output_tokens, iter(prompts), streams, processes)

    def close(self) -> None:
        """Nothing runs."""


class SimulatedTraffic:
    """Closed loop; a `Traffic`."""

    def __init__(
        self,
        engine: SimulatedEngine,
        output_tokens: int,
        prompts: Iterator[Sequence[int]],
        streams: int,
        processes: int = 1,
    ) -> None:
        self.sent: list[SentRequest] = []
        self.answered = self.failed = 0
        self.processes = processes
        self._share = min(1.0, engine.work(engine.windows) / processes)
        self._engine, self._wanted, self._prompts, self._streams = engine, output_tokens, prompts, streams
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._stream()) for _ in range(self._streams)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def clocks(self) -> tuple[CpuClock, ...]:
        now = virtual_clock()
        return tuple(CpuClock(now, now * self._share, 0.0) for _ in range(self.processes))

    async def until(self, answered: int, failed: int) -> None:
        while self.answered < answered and self.failed <= failed:
            self._news.clear()
            await self._news.wait()

    async def _stream(self) -> None:
        while True:
            flight = self._engine.submit(self._wanted, next(self._prompts))
            try:
                await flight.done.wait()
            except asyncio.CancelledError:
                self._engine.cancel(flight)
                self._end(flight, cancelled=True)
                raise
            self._end(flight)
            if flight.error is not None:
                await asyncio.sleep(0.2)

    def _end(self, flight: _Flight, cancelled: bool = False) -> None:
        now = virtual_clock()
        self.sent.append(
            SentRequest(flight.started, now, tuple(flight.arrivals), 0, None if cancelled else flight.error, cancelled)
        )
        self.answered += not cancelled and flight.error is None
        self.failed += not cancelled and flight.error is not None
        self._news.set()
