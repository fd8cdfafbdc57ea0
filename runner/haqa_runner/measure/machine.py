"""Which machine and which versions a measurement was made with and on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("guidellm", "lm-eval")
_CPU_KEYS = ("model name", "Hardware", "CPU part")


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """CPU model, usable cores, kernel and the measuring tools' versions, as text."""
    facts = {
        "cpu": _cpu_model(cpuinfo) or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def _cpu_model(cpuinfo: Path) -> str | None:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]
    return next((pair[1] for key in _CPU_KEYS for pair in pairs if pair[0] == key), None)
