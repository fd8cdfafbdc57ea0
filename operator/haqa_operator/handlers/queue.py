"""Which tunings to reconcile, each by one worker at a time, and again upon an event, an error or the end of a wait."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from haqa_operator.cluster.act.reconciler import Key
from haqa_operator.cluster.edges.api_server import ApiError

log = logging.getLogger(__name__)

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0


@dataclass
class Queue:
    """A queue of keys without duplicates.

    Attributes:
        reconcile: Reconciles one tuning; blocks; gives the seconds until the next time, None = never.
        workers: Tunings that are reconciled at once.
    """

    reconcile: Callable[[Key], float | None]
    workers: int = 8
    _last_sign_of_life: float = field(default_factory=time.monotonic)
    _ready: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    _queued: set[Key] = field(default_factory=set)
    _working: set[Key] = field(default_factory=set)
    _again: set[Key] = field(default_factory=set)
    _timers: dict[Key, asyncio.TimerHandle] = field(default_factory=dict)
    _failures: dict[Key, int] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def depth(self) -> int:
        return self._ready.qsize()

    def stuck_s(self, now: float) -> float:
        """Seconds, on the monotonic clock, for which there was work and none was finished; 0 while there is none."""
        return max(0.0, now - self._last_sign_of_life) if self._queued or self._working else 0.0

    async def run(self) -> None:
        """Works until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.workers):
                group.create_task(self._work())

    def add(self, key: Key) -> None:
        """Something has happened to this tuning. From the event loop's own thread."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            if not self._queued and not self._working:
                self._last_sign_of_life = time.monotonic()
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_from_thread(self, key: Key) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.add, key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._working.add(key)
            if timer := self._timers.pop(key, None):
                timer.cancel()
            try:
                self._later(key, await self._reconcile_now(key))
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _reconcile_now(self, key: Key) -> float | None:
        try:
            wait_s = await asyncio.to_thread(self.reconcile, key)
        except ApiError as error:
            wait_s = self._retry_s(key)
            log.warning("%s/%s: %s; again in %.1f s", key.namespace, key.name, error, wait_s)
        except Exception:
            wait_s = self._retry_s(key)
            log.exception("%s/%s: again in %.1f s", key.namespace, key.name, wait_s)
        else:
            self._failures.pop(key, None)
        self._last_sign_of_life = time.monotonic()
        return wait_s

    def _retry_s(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** (failures - 1))
        spread = random.uniform(0.5, 1)  # noqa: S311, no secret
        return longest * spread

    def _later(self, key: Key, wait_s: float | None) -> None:
        if wait_s is not None and self._loop is not None:
            self._timers[key] = self._loop.call_later(wait_s, self.add, key)
