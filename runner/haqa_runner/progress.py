"""What a step says while it works: how far it is, and where its time went."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from haqa_contract import PROGRESS_PREFIX, Phase, Progress

_QUIET_S = 0.25
"""Shortest time between two lines that differ in the figure alone: a progress bar ticks thousands of times a second."""


class ProgressSink(Protocol):
    """Takes a phase's name, the share of it that is done (0 to 1) and half a sentence."""

    def __call__(self, phase: str, done: float, message: str = "") -> None: ...


def no_progress(phase: str, done: float, message: str = "") -> None:
    """A sink that says nothing."""


class ProgressLines:
    """Writes progress as `HAQA {json}` lines, which the executor reads; a vanished reader is not an error."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._clock = clock
        self._lock = threading.Lock()
        self._has_reader = True
        self._last_said = ("", "")
        self._last_at = float("-inf")

    def __call__(self, phase: str, done: float, message: str = "") -> None:
        done = min(1.0, max(0.0, done))
        with self._lock:
            now = self._clock()
            if not self._has_reader:
                return
            if (phase, message) == self._last_said and done < 1 and now - self._last_at < _QUIET_S:
                return
            self._last_said, self._last_at = (phase, message), now
            line = Progress(phase=phase, done=round(done, 4), message=message).model_dump_json()
            try:
                self._stream.write(f"{PROGRESS_PREFIX}{line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._has_reader = False


class Phases:
    """Times the named parts of a step: `with phases.measure("quantize"): ...`.

    A phase that ends in an exception is kept: that is where time went too.
    """

    def __init__(self, now: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._elapsed = elapsed
        self._done: list[Phase] = []
        self._running: list[tuple[str, float, float]] = []

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        running = (name, self._now(), self._elapsed())
        self._running.append(running)
        try:
            yield
        finally:
            self._running.remove(running)
            self._done.append(self._until_now(running))

    def add(self, phase: Phase) -> None:
        """A phase that was timed elsewhere."""
        self._done.append(phase)

    @property
    def so_far(self) -> tuple[Phase, ...]:
        """In the order in which they began; those still running last until now."""
        running = [self._until_now(phase) for phase in tuple(self._running)]
        return tuple(sorted((*self._done, *running), key=lambda phase: phase.started))

    def _until_now(self, running: tuple[str, float, float]) -> Phase:
        name, started, began = running
        return Phase(name=name, started=started, seconds=self._elapsed() - began)
