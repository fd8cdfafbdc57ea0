"""Traffic as a measuring window sees it, whoever makes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from haqa_contract import Workload
from haqa_runner.measure.endpoint import Endpoint


@dataclass(frozen=True)
class SentRequest:
    """One request that has ended, by the client's clock (Unix seconds).

    Attributes:
        started: When its header was sent.
        ended: When the last byte of the answer, or the error, was there.
        arrivals: When output tokens came, and how many at a time.
        prompt_tokens: As the engine counted them.
        error: Why it failed; None if it was answered.
        cancelled: Ended by this side, because the traffic was over.
    """

    started: float
    ended: float
    arrivals: tuple[tuple[float, int], ...]
    prompt_tokens: int = 0
    error: str | None = None
    cancelled: bool = False

    @property
    def answered(self) -> bool:
        return self.error is None and not self.cancelled

    @property
    def output_tokens(self) -> int:
        return sum(count for _, count in self.arrivals)


class Traffic(Protocol):
    """A number of streams with one request in flight each, for as long as the context lasts.

    Leaving the context cancels what is in flight. `sent` has the requests that have ended, cancelled ones too.
    """

    sent: list[SentRequest]

    @property
    def answered(self) -> int: ...

    @property
    def failed(self) -> int: ...

    @property
    def busy(self) -> float:
        """Share of one core that making the traffic has used so far."""
        ...

    async def until(self, answered: int, failed: int) -> None:
        """Waits until that many requests have been answered, or more than `failed` have failed."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class OpenTraffic(Protocol):
    """Makes traffic of one workload's requests; it starts when its context is entered."""

    def __call__(
        self, endpoint: Endpoint, workload: Workload, prompts: Iterator[Sequence[int]], streams: int
    ) -> Traffic: ...
