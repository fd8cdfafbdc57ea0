"""What this machine is: `haqa tune` runs every pool here, and every pool may see another part of it.

The pool's environment counts: `ONEDNN_MAX_CPU_ISA` caps what oneDNN uses of the CPU and `CUDA_VISIBLE_DEVICES` hides
GPUs, and both make another node type out of the same machine.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, HardwareError, Vendor
from haqa_operator.hardware.instruction_sets import from_flags, onednn_cap
from haqa_operator.hardware.override import overridden, parse_capability

NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits")

_GIB = 2**30
_NO_LIMIT = 2**60
"""cgroup v1 writes "no limit" as the largest page-aligned 63-bit number."""


class Machine(Protocol):
    """The parts of a machine that detection looks at."""

    def read(self, path: str) -> str | None:
        """A file's text; None where there is no such file or it cannot be read."""

    def output(self, command: Sequence[str]) -> str | None:
        """What a command prints; None where it does not exist, fails or hangs."""

    def usable_cores(self) -> int:
        """Cores that this process may be scheduled on."""

    def architecture(self) -> str:
        """`x86_64`, `aarch64`."""


@dataclass(frozen=True)
class LinuxMachine:
    """The machine this process runs on."""

    command_timeout_s: float = 10.0

    def read(self, path: str) -> str | None:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def output(self, command: Sequence[str]) -> str | None:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.command_timeout_s, check=True, errors="replace"
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    def usable_cores(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def architecture(self) -> str:
        return platform.machine()


def detect(
    env: Mapping[str, str],
    override: HardwareOverride | None,
    *,
    gpus_per_replica: int = 1,
    machine: Machine | None = None,
) -> Accelerator:
    """The accelerator that an engine started here with this environment has.

    Args:
        env: The engine's environment: this process's with the pool's on top.
        override: What a person knows better.

    Raises:
        HardwareError: GPUs of several kinds, fewer GPUs than a replica needs, or a cap that oneDNN does not know.
    """
    machine = machine or LinuxMachine()
    on_cpu = override is not None and override.vendor == "cpu"
    gpus = [] if on_cpu else _visible(_nvidia_gpus(machine), env.get("CUDA_VISIBLE_DEVICES"))
    accelerator = _of_gpus(gpus, gpus_per_replica) if gpus and gpus_per_replica else _cpu(machine, env)
    return overridden(accelerator, override)


@dataclass(frozen=True)
class _Gpu:
    index: str
    uuid: str
    name: str
    memory_gib: float | None
    compute_capability: tuple[int, int] | None


def _nvidia_gpus(machine: Machine) -> list[_Gpu]:
    lines = (machine.output(NVIDIA_SMI) or "").splitlines()
    return [gpu for line in lines if (gpu := _gpu(line)) is not None]


def _gpu(line: str) -> _Gpu | None:
    """One line of nvidia-smi; unified-memory devices write `[N/A]` for their memory."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 5 or not fields[0].isdigit():
        return None
    index, uuid, name, memory_mib, capability = fields
    return _Gpu(
        index=index,
        uuid=uuid,
        name=name.replace(" ", "-"),
        memory_gib=float(memory_mib) / 1024 if memory_mib.replace(".", "", 1).isdigit() else None,
        compute_capability=parse_capability(capability) if capability[:1].isdigit() else None,
    )


def _visible(gpus: list[_Gpu], visible: str | None) -> list[_Gpu]:
    """The GPUs that CUDA shows under `CUDA_VISIBLE_DEVICES`: in its order, up to the first name it does not know."""
    if visible is None:
        return gpus
    shown: list[_Gpu] = []
    for name in filter(None, (part.strip() for part in visible.split(","))):
        gpu = next((gpu for gpu in gpus if name == gpu.index or gpu.uuid.startswith(name)), None)
        if gpu is None:
            break
        shown.append(gpu)
    return shown


def _of_gpus(gpus: Sequence[_Gpu], gpus_per_replica: int) -> Accelerator:
    if len(gpus) < gpus_per_replica:
        raise HardwareError(
            f"gpusPerReplica {gpus_per_replica}: this machine shows {len(gpus)} GPU(s) ({gpus[0].name}); lower "
            "gpusPerReplica or check CUDA_VISIBLE_DEVICES"
        )
    used = gpus[:gpus_per_replica]
    kinds = sorted({gpu.name for gpu in used})
    if len(kinds) > 1:
        raise HardwareError(
            f"gpusPerReplica {gpus_per_replica}: the GPUs differ ({', '.join(kinds)}); choose equal ones with "
            "CUDA_VISIBLE_DEVICES in nodePools[].env"
        )
    first = used[0]
    return Accelerator(
        Vendor.NVIDIA,
        product=first.name,
        count=len(used),
        memory_gib=first.memory_gib,
        compute_capability=first.compute_capability,
    )


def _cpu(machine: Machine, env: Mapping[str, str]) -> Accelerator:
    cpuinfo = _fields(machine.read("/proc/cpuinfo") or "")
    flags = cpuinfo.get("flags", cpuinfo.get("Features", "")).split()
    return Accelerator(
        Vendor.CPU,
        product=cpuinfo.get("model name") or f"{machine.architecture()} CPU",
        memory_gib=_memory_gib(machine),
        isa=from_flags(flags),
        onednn_cap=onednn_cap(env.get("ONEDNN_MAX_CPU_ISA")),
        cores=_cores(machine),
    )


def _fields(text: str) -> dict[str, str]:
    """`name : value` lines; the first of each name, since /proc/cpuinfo repeats itself for every core."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _memory_gib(machine: Machine) -> float | None:
    """The machine's memory, or less where a cgroup gives this process less."""
    total = _fields(machine.read("/proc/meminfo") or "").get("MemTotal", "")
    sizes = [int(total.split()[0]) * 1024] if total[:1].isdigit() else []
    for controller, file in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        sizes += [int(text) for text in _cgroup_files(machine, controller, file) if text.isdigit()]
    limits = [size for size in sizes if 0 < size < _NO_LIMIT]
    return min(limits) / _GIB if limits else None


def _cores(machine: Machine) -> int:
    """Cores by affinity, or fewer where a cgroup's quota gives less time; at least 1."""
    quotas = [text.split() for text in _cgroup_files(machine, "", "cpu.max")]
    quotas += [
        [quota, period]
        for quota, period in zip(
            _cgroup_files(machine, "cpu", "cpu.cfs_quota_us"),
            _cgroup_files(machine, "cpu", "cpu.cfs_period_us"),
            strict=False,
        )
    ]
    shares = [int(quota) / int(period) for quota, period in quotas if quota.isdigit() and period.isdigit()]
    return max(1, min([machine.usable_cores(), *(int(share) for share in shares)]))


def _cgroup_files(machine: Machine, controller: str, file: str) -> list[str]:
    """A cgroup file of this process and of every group above it, since each of them limits.

    Args:
        controller: cgroup v1's controller; empty for the one hierarchy of v2.
    """
    group = "/"
    for line in (machine.read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == controller or controller in controllers.split(","):
            group = path
    root = PurePosixPath("/sys/fs/cgroup", controller)
    own = PurePosixPath(group).relative_to("/")
    texts = [machine.read(str(root / above / file)) for above in (own, *own.parents)]
    return [text.strip() for text in texts if text is not None]
