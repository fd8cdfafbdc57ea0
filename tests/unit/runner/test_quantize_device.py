"""An accelerator that torch cannot use is said, with cause and remedy; a CPU pool notices nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.runner.requests import trial_request

from haqa_contract import AcceleratorVendor, Configuration, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.models import FetchedModel
from haqa_runner.quantize import device, step
from haqa_runner.quantize.device import Torch, accelerator_problem, cpu_instead, device_file, explained, hidden

FOR_CUDA = Torch("2.13.0+cu130", cuda="13.0")
FOR_ROCM = Torch("2.13.0+rocm7.2", rocm="7.2")
FOR_CPUS = Torch("2.13.0+cpu")
TOO_OLD = Torch("2.13.0+cu130", cuda="13.0", error="RuntimeError: The NVIDIA driver on your system is too old")
NO_LIBRARY = Torch("2.13.0+cu130", cuda="13.0", error="RuntimeError: Found no NVIDIA driver on your system")
NVIDIA, KFD, RENDER = Path("/dev/nvidia0"), Path("/dev/kfd"), Path("/dev/dri/renderD128")


@pytest.mark.parametrize(
    ("vendor", "file", "torch", "may_open", "cause", "remedy"),
    [
        ("amd", KFD, FOR_CUDA, True, "torch 2.13.0+cu130 (for CUDA 13.0) cannot use it", "runner.images.amd"),
        ("amd", KFD, FOR_CUDA, True, "torch 2.13.0+cu130", "`make envs TORCH=rocm`"),
        ("nvidia", NVIDIA, FOR_CPUS, True, "torch 2.13.0+cpu (for CPUs) cannot use it", "built with TORCH=cuda"),
        ("nvidia", NVIDIA, FOR_ROCM, True, "(for ROCm 7.2) cannot use it", "runner.image,"),
        ("nvidia", NVIDIA, TOO_OLD, True, "is too old", "has to be one for CUDA 13.0 or later"),
        ("nvidia", NVIDIA, NO_LIBRARY, True, "Found no NVIDIA driver", "runtimeClassName"),
        ("amd", KFD, FOR_ROCM, True, "it finds no device", "has to be one for ROCm 7.2 or later"),
        ("amd", KFD, FOR_ROCM, False, "may not open it", "the group that owns it (`stat -c %g /dev/kfd` on the node)"),
    ],
)
def test_cause_and_remedy_are_said(
    vendor: AcceleratorVendor, file: Path, torch: Torch, may_open: bool, cause: str, remedy: str
) -> None:
    problem = explained(vendor, file, torch, may_open=may_open)
    assert problem is not None
    assert problem.startswith(f"{file} is there")
    assert cause in problem
    assert remedy in problem
    assert "to nothing" in problem, "how to quantize on the CPU all the same"


@pytest.mark.parametrize("vendor", ["nvidia", "amd", "intel"])
def test_an_accelerator_that_torch_finds_is_no_problem(vendor: AcceleratorVendor) -> None:
    assert explained(vendor, NVIDIA, Torch("2.13.0", cuda="13.0", available=True), may_open=False) is None


@pytest.mark.parametrize(
    ("vendor", "name", "found"),
    [
        ("nvidia", "dev/nvidia1", True),
        ("nvidia", "dev/nvidiactl", False),
        ("nvidia", "dev/dxg", True),
        ("amd", "dev/kfd", True),
        ("amd", "dev/dri/renderD128", False),
        ("intel", "dev/dri/renderD128", True),
        ("intel", "dev/kfd", False),
    ],
)
def test_a_device_is_known_by_its_file(tmp_path: Path, vendor: AcceleratorVendor, name: str, found: bool) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert device_file(vendor, tmp_path) == (path if found else None)


@pytest.mark.parametrize(
    ("vendor", "env", "expected"),
    [
        ("nvidia", {}, False),
        ("nvidia", {"CUDA_VISIBLE_DEVICES": "0,1"}, False),
        ("nvidia", {"CUDA_VISIBLE_DEVICES": ""}, True),
        ("nvidia", {"CUDA_VISIBLE_DEVICES": "-1"}, True),
        ("nvidia", {"HIP_VISIBLE_DEVICES": ""}, False),
        ("amd", {"HIP_VISIBLE_DEVICES": ""}, True),
    ],
)
def test_a_person_may_want_the_cpu(vendor: AcceleratorVendor, env: dict[str, str], expected: bool) -> None:
    assert hidden(vendor, env) is expected


def test_nothing_is_wrong_where_no_device_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "device_file", lambda vendor: None)
    monkeypatch.setattr(device, "installed_torch", lambda: pytest.fail("torch was asked"))
    assert accelerator_problem("nvidia") is None


def test_accelerators_that_cannot_be_used_fail_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "accelerator_problem", lambda vendor: f"{vendor}: cause and remedy")
    with pytest.raises(TrialFailure, match="amd: cause and remedy") as raised:
        cpu_instead("amd", FailureReason.QUANTIZATION_FAILED)
    assert raised.value.reason is FailureReason.QUANTIZATION_FAILED


def test_intels_are_left_to_the_cpu_and_the_trial_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = explained("intel", RENDER, FOR_CPUS, may_open=True)
    monkeypatch.setattr(device, "accelerator_problem", lambda vendor: said)
    (warning,) = cpu_instead("intel", FailureReason.QUANTIZATION_FAILED)
    assert "no torch for Intel's accelerators" in warning


def test_a_pool_of_cpus_asks_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "accelerator_problem", lambda vendor: pytest.fail("a device was looked for"))
    assert cpu_instead(None, FailureReason.QUANTIZATION_FAILED) == ()


def test_a_trial_quantizes_with_the_accelerators_of_its_pool_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step asks before it plans anything: nothing is made on the CPU."""
    monkeypatch.setattr(step, "model_facts", lambda *given, **named: None)
    monkeypatch.setattr(device, "accelerator_problem", lambda vendor: f"{vendor}: cause and remedy")
    request = trial_request(tmp_path, accelerator="nvidia", configuration=Configuration.of("W4A16", "gptq"))
    with pytest.raises(TrialFailure, match="nvidia: cause and remedy"):
        step._plan(request, FetchedModel(tmp_path, "digest", 1))
