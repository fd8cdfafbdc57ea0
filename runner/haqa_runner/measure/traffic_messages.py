"""What the measuring process and a process of its load generator say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_runner.measure.capacity import CpuClock
from haqa_runner.measure.traffic import SentRequest


@dataclass(frozen=True)
class Order:
    """Make traffic until `Stop`.

    Attributes:
        place: Which prompts (`PromptSource.window`).
        index, of: Which share of them.
        streams: Requests in flight.
    """

    place: tuple[int | str, ...]
    index: int
    of: int
    streams: int


@dataclass(frozen=True)
class Stop:
    """Cancel what is in flight, and hand over what was sent."""


@dataclass(frozen=True)
class Count:
    """How far the traffic is."""

    answered: int
    failed: int
    clock: CpuClock


@dataclass(frozen=True)
class Sent:
    """Every request of the traffic that has ended, once."""

    requests: list[SentRequest]


@dataclass(frozen=True)
class Broken:
    """The process cannot go on, by a defect."""

    cause: str


Message = Count | Sent | Broken
