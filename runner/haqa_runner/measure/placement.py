"""Where and how urgently the load generator runs, where it has to share a machine with the engine.

A client that waits for a CPU sees tokens late, and in a closed loop sends its next request late: on a 2-core machine
time to first token came out at 100 ms instead of 17 ms and throughput at a third of what the engine could do, by
nothing but where the kernel happened to put the client. So, for as long as there is load:

- it keeps off the cores that engine workers are bound to. vLLM on CPU leaves one core to everything else by default
  (`reserved_cpus` in its log); preempting a worker stops all of the engine for that time.
- it runs with real-time priority, where that is permitted (root, or RLIMIT_RTPRIO). It works a fraction of a
  millisecond for every token, and a client on a machine of its own would not wait either.

Neither changes anything where the engine runs elsewhere or in another container, out of sight. How long the client
waited all the same is in `/proc/self/schedstat`, and becomes a warning, or the reason why a window does not count
(`capacity`). Processes of the load generator's own inherit both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from haqa_runner.measure.capacity import CpuClock

_WORKER_NAMES = ("VLLM::Worker", "VllmWorker")
"""How vLLM calls the processes that compute; a thread's own name is cut to 15 characters."""
_PRIORITY = 1
"""The lowest real-time priority there is: above everything ordinary, below everything that is meant to be urgent."""


@dataclass(frozen=True)
class Placement:
    """How the load generator runs.

    Attributes:
        cores: The cores it may use.
        real_time: Whether it goes before ordinary processes.
    """

    cores: frozenset[int]
    real_time: bool

    def __str__(self) -> str:
        cores = ",".join(map(str, sorted(self.cores)))
        return f"{'real-time' if self.real_time else 'ordinary'} priority, cores {cores}"


@contextmanager
def beside_the_engine(proc: Path = Path("/proc")) -> Iterator[Placement]:
    """Places the calling thread as described above, and puts it back afterwards."""
    before = os.sched_getaffinity(0)
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    free = before - worker_cores(len(before), proc)
    if free:
        os.sched_setaffinity(0, free)
    real_time = _hurry()
    try:
        yield Placement(frozenset(free or before), real_time)
    finally:
        if real_time:
            os.sched_setscheduler(0, policy, parameters)
        os.sched_setaffinity(0, before)


def worker_cores(cores: int, proc: Path = Path("/proc")) -> frozenset[int]:
    """Cores that engine workers are bound to: those of workers which may not use all `cores` of the machine."""
    bound: set[int] = set()
    for process in proc.glob("[0-9]*"):
        # Processes end while they are looked at.
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not command.startswith(_WORKER_NAMES):
                continue
            for thread in (process / "task").iterdir():
                with suppress(OSError):
                    allowed = _allowed((thread / "status").read_text())
                    if len(allowed) < cores:
                        bound |= allowed
    return frozenset(bound)


def seconds_waited(proc: Path = Path("/proc")) -> float:
    """How long the calling thread has been ready to run without a CPU, since its start; 0 where nobody counts."""
    try:
        return int((proc / "thread-self" / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def own_clock() -> CpuClock:
    """How hard this process has worked so far, and how long its calling thread has waited for a CPU."""
    return CpuClock(time.monotonic(), time.process_time(), seconds_waited())


def _hurry() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except OSError:
        return False
    return True


def _allowed(status: str) -> set[int]:
    """From a line like `Cpus_allowed_list:	0,2-3`."""
    found = next((line for line in status.splitlines() if line.startswith("Cpus_allowed_list:")), ":")
    cores: set[int] = set()
    for part in found.partition(":")[2].strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cores |= set(range(int(first), int(last or first) + 1))
    return cores
