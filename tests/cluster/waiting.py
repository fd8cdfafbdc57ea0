"""Waiting for a condition with a limit, so that no test sleeps for a guessed time or waits for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.2


def wait_until(
    probe: Callable[[], T | None],
    limit_s: float,
    what: str,
    why_not: Callable[[], str] = str,
    pause_s: float = _PAUSE_S,
) -> T:
    """The first answer of `probe` that is true; after `limit_s` an error saying `what` and what `why_not` finds out."""
    deadline = time.monotonic() + limit_s
    while True:
        if answer := probe():
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"after {limit_s:.0f} s still waiting for {what}\n{why_not()}".rstrip())
        time.sleep(pause_s)
