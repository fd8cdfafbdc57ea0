"""Traffic as a measuring window sees it, whoever makes it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, overload

from haqa_contract import Workload
from haqa_runner.measure.capacity import CpuClock
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.prompts import Prompts


class Arrivals(Sequence[tuple[float, int]]):
    """When output tokens came (Unix seconds), and how many at a time: 12 bytes each.

    A window at 50,000 tokens/s has millions of them, which come from one process to another.
    """

    __slots__ = ("_counts", "_times")

    def __init__(self) -> None:
        self._times, self._counts = array("d"), array("I")

    def add(self, at: float, tokens: int) -> None:
        self._times.append(at)
        self._counts.append(tokens)

    def __len__(self) -> int:
        return len(self._times)

    @overload
    def __getitem__(self, index: int) -> tuple[float, int]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[float, int]]: ...

    def __getitem__(self, index: int | slice) -> tuple[float, int] | Sequence[tuple[float, int]]:
        if isinstance(index, slice):
            return list(zip(self._times[index], self._counts[index], strict=True))
        return self._times[index], self._counts[index]

    def __iter__(self) -> Iterator[tuple[float, int]]:
        return zip(self._times, self._counts, strict=True)


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
    arrivals: Sequence[tuple[float, int]]
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

    Leaving the context cancels what is in flight. From then on `sent` has the requests that have ended, cancelled ones
    too.
    """

    sent: list[SentRequest]

    @property
    def answered(self) -> int: ...

    @property
    def failed(self) -> int: ...

    @property
    def processes(self) -> int:
        """How many share the streams."""
        ...

    @property
    def clocks(self) -> tuple[CpuClock, ...]:
        """How hard each process that has to do with the traffic has worked so far, always in the same order."""
        ...

    async def until(self, answered: int, failed: int) -> None:
        """Waits until that many requests have been answered, or more than `failed` have failed."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Generator(Protocol):
    """Makes the traffic of one workload against one engine."""

    @property
    def most(self) -> int:
        """Processes that there are CPUs for."""
        ...

    def open(self, prompts: Prompts, streams: int, processes: int) -> Traffic:
        """Traffic that starts when its context is entered, one at a time."""
        ...

    def close(self) -> None:
        """Ends its processes."""
        ...


class OpenGenerator(Protocol):
    def __call__(self, endpoint: Endpoint, workload: Workload) -> Generator: ...
