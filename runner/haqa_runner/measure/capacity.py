"""How many processes the load generator takes, and whether it was what limited a window.

A process that always has something to do reads tokens when it comes to them and not when they arrive, and in a closed
loop sends its next request late: what is measured then is the generator. So does one that has to wait for a CPU. Such a
window does not count, and is repeated with more processes as long as there are CPUs for them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from haqa_contract.load_generation import AT_EASE, processes

BUSY_LIMIT = 0.8
"""Share of the time for which a process may have something to do; above it the figures are the generator's own."""


@dataclass(frozen=True)
class CpuClock:
    """How long one process of the generator has worked, by its own count.

    Attributes:
        at: When it looked, in seconds.
        used_s: On a CPU.
        waited_s: Ready to work, without a CPU.
    """

    at: float
    used_s: float
    waited_s: float


@dataclass(frozen=True)
class Effort:
    """What a window asked of the busiest process of the generator.

    Attributes:
        busy, waited: Shares of the time on a CPU, and ready without one.
        processes: How many there were.
    """

    busy: float = 0.0
    waited: float = 0.0
    processes: int = 1

    @property
    def occupied(self) -> float:
        """Share of the time for which it had something to do."""
        return self.busy + self.waited

    @property
    def objection(self) -> str | None:
        """Why the window does not count; None where the generator was at ease."""
        if self.occupied <= BUSY_LIMIT:
            return None
        whose = f"the busiest of its {self.processes} processes" if self.processes > 1 else "its process"
        waiting = f" ({self.waited:.0%} waiting for a CPU)" if self.waited > 0.01 else ""
        return f"the load generator was the limit: {whose} had work for {self.occupied:.0%} of the time{waiting}"


NO_EFFORT = Effort()


def effort(before: Sequence[CpuClock], after: Sequence[CpuClock], processes: int) -> Effort:
    """Between two looks at the same processes, in the same order."""
    shares = [_shares(*pair) for pair in zip(before, after, strict=True)]
    busy, waited = max(shares, key=sum, default=(0.0, 0.0))
    return Effort(busy, waited, processes)


def first_processes(expected_tokens_per_s: float | None, streams: int, most: int) -> int:
    """How many to begin with: as many as the expected rate takes, no more than there are streams and CPUs."""
    return max(1, min(processes(expected_tokens_per_s or 0.0), streams, most))


def more_processes(seen: Effort, streams: int, most: int) -> int | None:
    """How many to repeat a window with in which the generator was the limit; None where more are of no use.

    Twice as many at least: what it would have had to do with more requests in time is not known.
    """
    wanted = max(2 * seen.processes, math.ceil(seen.processes * seen.occupied / AT_EASE))
    found = min(wanted, streams, most)
    return found if found > seen.processes else None


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process and its children may use at once: those it is bound to, within its container's limit."""
    bound = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return bound if quota is None else max(1, min(bound, math.floor(quota)))


def _quota(cgroup: Path) -> float | None:
    """The container's limit in CPUs, by either version of control groups; None without one."""
    with suppress(OSError, ValueError):
        allowed, period = (cgroup / "cpu.max").read_text().split()
        return None if allowed == "max" else int(allowed) / int(period)
    with suppress(OSError, ValueError):
        allowed_us = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        return allowed_us / int((cgroup / "cpu" / "cpu.cfs_period_us").read_text()) if allowed_us > 0 else None
    return None


def _shares(before: CpuClock, after: CpuClock) -> tuple[float, float]:
    seconds = max(after.at - before.at, 1e-9)
    return (after.used_s - before.used_s) / seconds, (after.waited_s - before.waited_s) / seconds
