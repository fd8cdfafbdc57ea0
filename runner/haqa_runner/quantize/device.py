"""The device that quantizing has: an accelerator, or the CPU.

A device file without a torch that can use it is no reason to take the CPU in silence: what an accelerator does in
minutes takes a CPU a day, and the accelerators are held meanwhile. `python -m haqa_runner.quantize.device VENDOR` says
what there is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from haqa_contract import AcceleratorVendor, FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.quantize.machine import has_device_file

_FILES: Mapping[AcceleratorVendor, tuple[str, ...]] = {
    "nvidia": ("dev/nvidia[0-9]*", "dev/dxg"),
    "amd": ("dev/kfd",),
    "intel": ("dev/dri/renderD*", "dev/accel/*"),
}
_HIDING: Mapping[AcceleratorVendor, tuple[str, ...]] = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "intel": ("ZE_AFFINITY_MASK",),
}
"""Variables by which a person keeps torch off the accelerators: set, and to nothing or -1."""
_NAMES: Mapping[AcceleratorVendor, str] = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
_BUILDS: Mapping[AcceleratorVendor, str] = {"nvidia": "cuda", "amd": "rocm"}
"""How `make envs TORCH=` and the image's build argument call the torch for it; there is none for Intel's."""
_NO_DRIVER = "no NVIDIA driver"
"""In torch's words, where libcuda.so is not found."""
_CAUSE_LIMIT = 250


@dataclass(frozen=True)
class Torch:
    """What the installed torch is.

    Attributes:
        cuda, rocm: Versions that it is built for; at most one of them.
        available: Whether it finds an accelerator.
        error: What it says when it is made to use one; "" where it finds one, and where it is built for none.
    """

    version: str
    cuda: str | None = None
    rocm: str | None = None
    available: bool = False
    error: str = ""

    def serves(self, vendor: AcceleratorVendor) -> bool:
        return bool({"nvidia": self.cuda, "amd": self.rocm}.get(vendor))

    def __str__(self) -> str:
        if self.rocm:
            return f"torch {self.version} (for ROCm {self.rocm})"
        return f"torch {self.version} (for {f'CUDA {self.cuda}' if self.cuda else 'CPUs'})"


def has_accelerator() -> bool:
    """Whether torch has a device other than the CPU. It is asked only where there may be one: it imports slowly."""
    if not has_device_file():
        return False
    import torch

    return bool(torch.accelerator.is_available())


def cpu_instead(vendor: AcceleratorVendor | None, reason: FailureReason) -> tuple[str, ...]:
    """What to know about working on the CPU though an accelerator is there.

    Args:
        vendor: Of the pool's accelerators; None where it has none.

    Raises:
        TrialFailure: for this reason. This environment has the torch for another device, or the node's driver does not
            fit: the accelerators would be held and not used.
    """
    problem = accelerator_problem(vendor) if vendor else None
    if problem is None:
        return ()
    if vendor not in _BUILDS:
        return (problem,)
    raise TrialFailure(reason, problem)


def accelerator_problem(vendor: AcceleratorVendor) -> str | None:
    """Why torch cannot use an accelerator that this process was given; None where it can, or was given none."""
    file = device_file(vendor)
    if file is None or hidden(vendor, os.environ):
        return None
    return explained(vendor, file, installed_torch(), may_open=os.access(file, os.R_OK | os.W_OK))


def device_file(vendor: AcceleratorVendor, root: Path = Path("/")) -> Path | None:
    """The first file of such a device, or of its driver."""
    return next((path for pattern in _FILES[vendor] for path in sorted(root.glob(pattern))), None)


def hidden(vendor: AcceleratorVendor, env: Mapping[str, str]) -> bool:
    return any(env.get(name, "0").strip() in ("", "-1") for name in _HIDING[vendor])


def explained(vendor: AcceleratorVendor, file: Path, torch: Torch, *, may_open: bool) -> str | None:
    """Cause and remedy as sentences; None where all is well."""
    if torch.available:
        return None
    name, build = _NAMES[vendor], _BUILDS.get(vendor)
    if build is None:
        return f"{file} is there, and this environment has no torch for {name}'s accelerators: the CPU did the work"
    variable = _HIDING[vendor][0]
    all_the_same = f"To quantize on the CPU all the same, set {variable} to nothing (runner.env of the chart)"
    if not torch.serves(vendor):
        return (
            f"{file} is there, and {torch} cannot use it. Take the runner's image for {name} ({_image(vendor)}, built "
            f"with TORCH={build}), on one machine `make envs TORCH={build}`. {all_the_same}"
        )
    if not may_open:
        return (
            f"{file} is there, and user {os.getuid()} with groups {_groups()} may not open it. Give the pod, or the "
            f"user, the group that owns it (`stat -c %g {file}` on the node). {all_the_same}"
        )
    wanted = f"CUDA {torch.cuda}" if vendor == "nvidia" else f"ROCm {torch.rocm}"
    remedy = (
        "The driver's libraries are not here: a container has to be started by NVIDIA's runtime (runtimeClassName, or "
        "the nodes' default)"
        if _NO_DRIVER in torch.error
        else f"The node's driver has to be one for {wanted} or later; the accelerator has to be one that this torch is "
        "built for"
    )
    return (
        f"{file} is there, and {torch} cannot use it: {torch.error or 'it finds no device'}. {remedy}. {all_the_same}"
    )


def installed_torch() -> Torch:
    import torch

    cuda, rocm = torch.version.cuda, torch.version.hip
    available = bool(torch.accelerator.is_available())
    error = _error() if (cuda or rocm) and not available else ""
    # HIP's version has a build number behind it: 7.2.53211.
    return Torch(torch.__version__, cuda, ".".join(rocm.split(".")[:2]) if rocm else None, available, error)


def _error() -> str:
    """In torch's own words; ROCm's devices are called cuda too."""
    import torch

    try:
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return cause_of(error, _CAUSE_LIMIT)
    return ""


def _image(vendor: AcceleratorVendor) -> str:
    return "runner.image" if vendor == "nvidia" else f"runner.images.{vendor}"


def _groups() -> str:
    return ", ".join(str(group) for group in sorted({os.getgid(), *os.getgroups()}))


def main() -> int:
    """Prints the devices, or the problem; the exit status is 1 for a problem."""
    vendor = next((name for name in _FILES if name == sys.argv[-1]), None)
    if vendor is None:
        sys.stderr.write(f"{sys.argv[-1]!r} is none of {', '.join(_FILES)}\n")
        return 2
    if problem := accelerator_problem(vendor):
        print(problem)
        return 1
    print(installed_torch())
    return 0


if __name__ == "__main__":
    sys.exit(main())
