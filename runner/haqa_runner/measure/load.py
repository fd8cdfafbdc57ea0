"""The load test: windows at every level, in an order that keeps drift from looking like a difference.

Repeats go round the levels (1, 8, 1, 8, ...) instead of finishing one level before the next, so that a machine that
slows down over the minutes does so for every level. A window whose two counts of tokens disagree is measured once more
with other prompts, and stays in the report, marked. So is one whose load generator was the limit, with more processes
as long as there are CPUs for them (`capacity`). Where the trial has something to beat, a short look comes first, and
the test ends when that is out of reach (`early_stop`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count

from haqa_contract import FailureReason, LoadGate, LoadReport, Phase, Window, Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.capacity import Effort, first_processes, more_processes
from haqa_runner.measure.caveats import caveats
from haqa_runner.measure.early_stop import LEAST_ROUNDS, LOOK_ROUNDS, levels_to_look_at, out_of_reach
from haqa_runner.measure.endpoint import Endpoint, EngineRefused
from haqa_runner.measure.engine_metrics import Metrics, MetricsReader, Reading, difference
from haqa_runner.measure.placement import Placement, beside_the_engine
from haqa_runner.measure.prompts import Prompts, PromptSource
from haqa_runner.measure.shared_traffic import GuidellmGenerator
from haqa_runner.measure.traffic import Generator, OpenGenerator
from haqa_runner.measure.window import Observed, Plan, observe, window_of
from haqa_runner.progress import Phases, ProgressSink, no_progress

ERROR_RATE_LIMIT = 0.01
_IDLE_S = 30.0
_IDLE_POLL_S = 0.02
_AGAIN = 1
"""How often a window is repeated for what repeating alone may mend."""


@dataclass
class LoadTest:
    """Windows of one workload against one engine.

    Args:
        endpoint: The engine.
        workload: What to send.
        prompts: Where prompts come from.
        phases: Told how long warm-ups and windows took.
        warnings: What a reader of the figures should know; grows.
        open_generator, open_metrics: How to reach the engine.
        clock: Unix seconds, the same as the traffic's and the metrics'.
        gates: What the engine has to reach; out of reach, the test ends.
        expected_tokens_per_s: At its fastest; the load generator begins with processes enough for that.
    """

    endpoint: Endpoint
    workload: Workload
    prompts: PromptSource
    phases: Phases = field(default_factory=Phases)
    warnings: list[str] = field(default_factory=list)
    open_generator: OpenGenerator = GuidellmGenerator
    open_metrics: Callable[[Endpoint], Metrics] = MetricsReader
    clock: Callable[[], float] = time.time
    gates: Sequence[LoadGate] = ()
    expected_tokens_per_s: float | None = None
    placement: Placement | None = field(default=None, init=False)
    _first_reading: Reading | None = field(default=None, init=False)
    _warm: set[int] = field(default_factory=set, init=False)
    _processes: dict[int, int] = field(default_factory=dict, init=False)
    _measured: set[int] = field(default_factory=set, init=False)

    @cached_property
    def generator(self) -> Generator:
        return self.open_generator(self.endpoint, self.workload)

    @property
    def processes(self) -> int:
        """The most that the load generator has had so far."""
        return max(self._processes.values(), default=1)

    def close(self) -> None:
        """Ends the load generator's processes."""
        self.generator.close()

    def run(self, progress: ProgressSink = no_progress) -> LoadReport:
        """Every level, every repeat, unless it ends early.

        Raises:
            TrialFailure: more than 1 % of a window's requests failed, the engine restarted, its metrics are missing, or
                the load generator is slower than the engine.
        """
        with beside_the_engine() as placement:
            self.placement = placement
            try:
                return asyncio.run(self.windows(progress))
            finally:
                self.close()

    async def windows(self, progress: ProgressSink = no_progress) -> LoadReport:
        """As `run`, inside an event loop."""
        metrics = self.open_metrics(self.endpoint)
        levels = self.workload.concurrency
        windows: list[Window] = []
        try:
            for level in self._levels_to_look_at():
                progress("load_test", 0.0, f"concurrency {level}, a short look")
                windows += await self._look(metrics, level)
            for repeat in range(self.workload.repeats):
                ended = out_of_reach(self.gates, windows, levels)
                if ended is not None:
                    progress("load_test", 1.0, ended)
                    return LoadReport(windows=tuple(windows), ended_early=ended)
                for number, level in enumerate(levels):
                    done = (repeat * len(levels) + number) / (self.workload.repeats * len(levels))
                    progress("load_test", done, f"concurrency {level}, window {repeat + 1}")
                    windows += await self.measure(metrics, level, repeat)
        finally:
            await metrics.close()
        progress("load_test", 1.0, f"{len(windows)} windows")
        _require_valid(windows)
        return LoadReport(windows=tuple(windows))

    async def measure(self, metrics: Metrics, level: int, repeat: int) -> tuple[Window, ...]:
        """One window, repeated where it does not count; the last one counts, if any.

        Raises:
            TrialFailure: as `run`.
        """
        windows: list[Window] = []
        again = _AGAIN
        for attempt in count(1):
            observed = await self._observe(metrics, self._plan(level), self.prompts.window(level, repeat, attempt))
            window = window_of(observed, repeat)
            self.warnings += caveats(observed, window, shared_prefixes=self.prompts.cacheable)
            windows.append(window)
            if window.invalid is None:
                self._say_queued(window)
                self._measured.add(level)
                break
            if self._takes_more_processes(level, observed.client):
                continue
            if again == 0:
                where = f"concurrency {level}, window {repeat + 1}"
                self.warnings.append(f"{where}: measured {_times(attempt)} and still {window.invalid}")
                self._require_generator(window, observed.client)
                break
            again -= 1
        return tuple(windows)

    def _say_queued(self, window: Window) -> None:
        """Once for each level: what waits in the engine is measured as users would see it."""
        level = window.concurrency
        if not window.saturated or level in self._measured:
            return
        usage = window.peak_kv_cache_usage
        full = f"; its KV cache was {usage:.0%} full" if usage is not None else ""
        self.warnings.append(
            f"concurrency {level}: requests waited in the engine, which runs fewer at once under this configuration"
            f"{full}. The figures have the wait in them"
        )

    async def _look(self, metrics: Metrics, level: int) -> tuple[Window, ...]:
        """A look in which the load generator was the limit says nothing; it is repeated with more processes."""
        windows: list[Window] = []
        while True:
            plan = replace(self._plan(level), rounds=LOOK_ROUNDS, duration_s=None)
            observed = await self._observe(metrics, plan, self.prompts.window(level, "look", len(windows)))
            windows.append(window_of(observed, 0).model_copy(update={"look": True}))
            if not self._takes_more_processes(level, observed.client):
                return tuple(windows)

    def _takes_more_processes(self, level: int, seen: Effort) -> bool:
        """Whether the load generator was the limit, and there are CPUs for more of it, which it has from now on."""
        more = more_processes(seen, level, self.generator.most) if seen.objection is not None else None
        if more is not None:
            self._processes[level] = more
        return more is not None

    def _processes_at(self, level: int) -> int:
        """As many as the level has shown to take; at first, what is expected, and what another level has taken."""
        if level not in self._processes:
            first = first_processes(self.expected_tokens_per_s, level, self.generator.most)
            self._processes[level] = max(first, min(level, self.processes))
        return self._processes[level]

    def _require_generator(self, window: Window, seen: Effort) -> None:
        """Where it is slower than the engine from the first window on, more windows would say the same."""
        if seen.objection is None or window.concurrency in self._measured:
            return
        raise TrialFailure(
            FailureReason.LOAD_GENERATOR_LIMIT,
            f"at concurrency {window.concurrency} {seen.objection}, at {window.output_tokens_per_s:.0f} output "
            f"tokens/s; there are {self.generator.most} CPUs for it, and what is faster than that cannot be told "
            "apart. Lower workload.concurrency, or use nodes with more CPU for each accelerator",
        )

    def _levels_to_look_at(self) -> tuple[int, ...]:
        rounds = min(1 + self._plan(level).rounds for level in self.workload.concurrency) * self.workload.repeats
        if not self.gates or (self.workload.duration_s is None and rounds < LEAST_ROUNDS):
            return ()
        return levels_to_look_at(self.gates, self.workload.concurrency)

    async def _observe(self, metrics: Metrics, plan: Plan, prompts: Prompts) -> Observed:
        self._require_same_process(await _idle(metrics))
        self._warm.add(plan.streams)
        traffic = self.generator.open(prompts, plan.streams, self._processes_at(plan.streams))
        observed = await observe(traffic, metrics, plan, self.clock)
        self._require_answers(observed)
        self._time(observed)
        return observed

    def _require_same_process(self, reading: Reading) -> None:
        """All windows are of one engine process: between two of them nobody would notice a restart otherwise."""
        if self._first_reading is None:
            self._first_reading = reading
        difference(self._first_reading, reading)

    def _plan(self, level: int) -> Plan:
        timed = self.workload.duration_s is not None
        rounds = 1 if timed else math.ceil(self.workload.requests_at(level) / level)
        ramp = 1 if level in self._warm else max(1, self.workload.warmup_requests)
        # Nobody knows how many requests a timed window will have; there every stream may fail once before it is ended.
        tolerated = level if timed else math.floor(ERROR_RATE_LIMIT * (ramp + rounds) * level)
        return Plan(level, ramp, rounds, self.workload.duration_s, tolerated)

    def _require_answers(self, observed: Observed) -> None:
        failures = observed.failures
        done = sum(request.answered for request in observed.sent) + len(failures)
        if not failures or len(failures) <= ERROR_RATE_LIMIT * done:
            return
        raise TrialFailure(
            FailureReason.LOAD_ERRORS,
            f"{len(failures)} of {done} requests failed at concurrency {observed.plan.streams}; the first one with: "
            f"{failures[0].error}{self._in_its_own_words()}. The engine's log says more; lower the concurrency, or "
            "raise workload.requestTimeoutSeconds if they timed out",
        )

    def _in_its_own_words(self) -> str:
        """A refused stream says only its status; asked plainly, the engine gives the reason."""
        try:
            with self.endpoint.client() as client:
                prompt = list(next(iter(self.prompts.window("plain"))))
                self.endpoint.complete(client, prompt=prompt, max_tokens=self.workload.output_tokens, ignore_eos=True)
        except EngineRefused as refused:
            return f" ({refused})"
        except TrialFailure as failure:
            return f" ({failure.message})"
        return ""

    def _time(self, observed: Observed) -> None:
        began, edge = observed.began, observed.before.at
        name = "warmup" if observed.plan.ramp_rounds > 1 else "load_test"
        self.phases.add(Phase(name=name, started=began, seconds=edge - began))
        self.phases.add(Phase(name="load_test", started=edge, seconds=observed.after.at - edge))


def _require_valid(windows: Sequence[Window]) -> None:
    full = [window for window in windows if not window.look]
    for level in dict.fromkeys(window.concurrency for window in full):
        objections = [window.invalid for window in full if window.concurrency == level]
        if None not in objections:
            raise TrialFailure(
                FailureReason.METRICS_MISSING,
                f"no window at concurrency {level} can be trusted, the last one because {objections[-1]}",
            )


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


async def _idle(metrics: Metrics) -> Reading:
    """Waits until the requests that the last window left behind are gone."""
    deadline = time.monotonic() + _IDLE_S
    while True:
        reading = await metrics.read()
        if reading.running + reading.waiting == 0:
            return reading
        if time.monotonic() > deadline:
            raise TrialFailure(
                FailureReason.LOAD_ERRORS,
                f"the engine still works on {reading.running + reading.waiting:g} requests {_IDLE_S:g} s after the "
                "last one was cancelled; something else uses it, or it hangs: its log says more",
            )
        await asyncio.sleep(_IDLE_POLL_S)
