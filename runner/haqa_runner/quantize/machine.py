"""What this process may use of the machine, and what it has used."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""As Linux names them, on x86 and on Arm."""
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri", "/dev/accel")
"""One of these is there wherever a GPU or an NPU is: NVIDIA, AMD, WSL, Intel, and the kernel's accelerator class."""
_UNLIMITED = 2**60
"""cgroup v1 says "no limit" with a number that no machine has."""


def memory_limit_bytes(cgroup: Path = _CGROUP) -> int:
    """Memory of the container, or of the machine where there is no smaller limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(cgroup / name)
        if text.isdigit() and int(text) < _UNLIMITED:
            limits.append(int(text))
    return min(limits)


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores that this process gets: its CPU set, cut to the container's quota."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16 products; without them they are emulated, slowly."""
    flags = next((line for line in _read(cpuinfo).splitlines() if line.lower().startswith(("flags", "features"))), "")
    return not _BFLOAT16_FLAGS.isdisjoint(flags.split())


def has_device_file() -> bool:
    """Whether there may be a device other than the CPU."""
    return any(Path(name).exists() for name in _DEVICE_FILES)


def reset_peak_rss() -> None:
    """Starts the peak anew, where the kernel allows it: a forked process has its parent's memory to begin with."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since its start or the last reset."""
    for line in _lines("/proc/self/status"):
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _lines(path: str) -> Iterable[str]:
    return _read(Path(path)).splitlines()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
