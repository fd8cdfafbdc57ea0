"""Continuous batching, in time that is computed and not waited for.

Sequences are spread over groups: replicas of data parallelism, or batches that follow each other through the stages of
a pipeline. Each group goes from step to step as vLLM's scheduler does (vllm/v1/core/sched/scheduler.py): running
sequences first, then prompts, in chunks, as far as `max-num-batched-tokens`, `max-num-seqs` and the KV cache go; where
the cache is full the youngest sequence is put back and computed again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cluster.rehearsal.kernels import Step

_JITTER, _DRIFT = 0.02, 0.004
"""Standard deviations of the logarithm of a step's time, for each step and for all steps of some traffic."""


@dataclass
class Request:
    """One prompt and its answer; times in simulated Unix seconds."""

    started: float
    prompt: int
    wanted: int
    arrivals: list[float] = field(default_factory=list)
    computed: int = 0
    """Tokens in the KV cache"""

    @property
    def target(self) -> int:
        """Tokens to have computed before the next one can be sampled."""
        return self.prompt + len(self.arrivals)

    @property
    def done(self) -> bool:
        return len(self.arrivals) >= self.wanted


@dataclass(frozen=True)
class Limits:
    """Of one group."""

    batched_tokens: int
    sequences: int
    cache_tokens: int


@dataclass
class _Group:
    limits: Limits
    now: float
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)

    @property
    def load(self) -> int:
        return len(self.running) + len(self.waiting)


class Simulation:
    """An engine with requests.

    Args:
        groups: Each with its own queue and cache.
        seconds: How long a step takes.
    """

    def __init__(self, groups: list[Limits], seconds: Callable[[Step], float], now: float, seed: int = 0) -> None:
        self._groups = [_Group(limits, now) for limits in groups]
        self._seconds = seconds
        self._random = random.Random(seed)
        self._drift = 1.0
        self.generated = self.prompted = self.finished = self.preempted = 0

    @property
    def now(self) -> float:
        return max(group.now for group in self._groups)

    @property
    def running(self) -> int:
        return sum(len(group.running) for group in self._groups)

    @property
    def waiting(self) -> int:
        return sum(len(group.waiting) for group in self._groups)

    @property
    def cache_usage(self) -> float:
        used = (sum(one.computed for one in group.running) / group.limits.cache_tokens for group in self._groups)
        return max(used)

    def drift(self) -> None:
        """Other traffic, at another temperature of the machine."""
        self._drift = self._random.lognormvariate(0, _DRIFT)

    def submit(self, prompt: int, wanted: int, at: float) -> Request:
        """To the group with least to do; one that has nothing to do is at the present."""
        group = min(self._groups, key=lambda one: one.load)
        if not group.load:
            group.now = max(group.now, at)
        request = Request(at, prompt, wanted)
        group.waiting.append(request)
        return request

    def step(self) -> list[Request]:
        """The next step of the group that is furthest behind; the requests that it finished."""
        group = min((one for one in self._groups if one.load), key=lambda one: one.now)
        decoding, prompts = self._schedule(group)
        context = sum(one.computed for one in decoding)
        step = Step(len(decoding), context, [(tokens, one.computed) for one, tokens in prompts])
        jitter = self._random.lognormvariate(0, _JITTER)
        group.now += self._seconds(step) * jitter * self._drift
        return self._after(group, decoding, prompts)

    def cancel_all(self) -> list[Request]:
        cancelled = [one for group in self._groups for one in (*group.running, *group.waiting)]
        for group in self._groups:
            group.running.clear()
            group.waiting.clear()
        now = self.now
        for group in self._groups:
            group.now = now
        return cancelled

    def _schedule(self, group: _Group) -> tuple[list[Request], list[tuple[Request, int]]]:
        limits = group.limits
        self._make_room(group)
        budget = limits.batched_tokens
        decoding: list[Request] = []
        prompts: list[tuple[Request, int]] = []
        for one in group.running:
            left = one.target - one.computed
            tokens = min(left, budget)
            if tokens == 0:
                continue
            budget -= tokens
            if left == 1 and one.arrivals:
                decoding.append(one)
            else:
                prompts.append((one, tokens))
        free = limits.cache_tokens - sum(one.target for one in group.running)
        while group.waiting and budget > 0 and len(group.running) < limits.sequences:
            one = group.waiting[0]
            if one.target + 1 > free:
                break
            group.running.append(group.waiting.popleft())
            tokens = min(one.target, budget)
            budget, free = budget - tokens, free - one.target
            prompts.append((one, tokens))
        return decoding, prompts

    def _make_room(self, group: _Group) -> None:
        """Every running sequence gets room for its next tokens, or the youngest goes back."""
        while len(group.running) > 1:
            needed = sum(one.target for one in group.running)
            if needed <= group.limits.cache_tokens:
                return
            youngest = group.running.pop()
            youngest.computed = 0
            group.waiting.appendleft(youngest)
            self.preempted += 1

    def _after(self, group: _Group, decoding: list[Request], prompts: list[tuple[Request, int]]) -> list[Request]:
        sampled = list(decoding)
        for one in decoding:
            one.computed += 1
        for one, tokens in prompts:
            self.prompted += min(tokens, max(0, one.prompt - one.computed)) if not one.arrivals else 0
            one.computed += tokens
            if one.computed == one.target:
                sampled.append(one)
        for one in sampled:
            one.arrivals.append(group.now)
        self.generated += len(sampled)
        finished = [one for one in sampled if one.done]
        for one in finished:
            group.running.remove(one)
        self.finished += len(finished)
        return finished


@dataclass
class ClosedLoop:
    """As many requests in flight as there are streams: each is followed by the next at once."""

    simulation: Simulation
    streams: int
    prompt: int
    wanted: int
    answered: int = 0

    def start(self) -> None:
        self.simulation.drift()
        now = self.simulation.now
        for _ in range(self.streams):
            self.simulation.submit(self.prompt, self.wanted, now)

    def until(self, answered: int) -> list[Request]:
        """Goes on until that many have been answered since the start; those that were on the way."""
        ended: list[Request] = []
        while self.answered < answered:
            for request in self.simulation.step():
                ended.append(request)
                self.answered += 1
                self.simulation.submit(self.prompt, self.wanted, request.arrivals[-1])
        return ended
