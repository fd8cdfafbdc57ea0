"""The runner's libraries are the same on all hardware but for torch, which has a lock file for each kind of device."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TORCHES = ("cuda", "rocm", "cpu")
LABELS = {"cuda": "", "rocm": "+rocm7.2", "cpu": "+cpu"}


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s\\]+)", text, re.MULTILINE))


def wanted() -> str:
    """torch, as pyproject.toml has it in two places."""
    (extra, group) = re.findall(r'"torch==([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert extra == group
    return str(extra)


@pytest.mark.parametrize("torch", TORCHES)
def test_every_device_gets_the_same_version_of_torch(torch: str) -> None:
    assert pinned(f"torch-{torch}")["torch"] == wanted() + LABELS[torch]


@pytest.mark.parametrize("torch", TORCHES)
def test_what_torch_shares_with_the_other_libraries_is_the_same(torch: str) -> None:
    libraries, own = pinned("runner"), pinned(f"torch-{torch}")
    assert {name: own[name] for name in own if name in libraries} == {
        name: libraries[name] for name in libraries if name in own
    }


def test_what_is_for_one_kind_of_device_is_in_its_own_lock_file_alone() -> None:
    special = re.compile(r"torch|triton.*|nvidia-(?!ml-py).*|cuda-.*")
    assert not [name for name in pinned("runner") if special.fullmatch(name)]
    assert [name for name in pinned("torch-cpu") if special.fullmatch(name)] == ["torch"]
    assert sorted(name for name in pinned("torch-rocm") if special.fullmatch(name)) == ["torch", "triton-rocm"]


@pytest.mark.parametrize("name", ["runner", "torch-cuda", "torch-cpu", "serving-cuda"])
def test_every_package_is_pinned_by_hash(name: str) -> None:
    packages = re.split(r"^(?=\w)", (ROOT / "locks" / f"{name}.txt").read_text(), flags=re.MULTILINE)
    assert not [package for package in packages if re.match(r"\w", package) and "--hash=sha256:" not in package]


@pytest.mark.parametrize("torch", ["rocm", "cpu"])
def test_image_lock_file_and_environment_are_of_the_same_index(torch: str) -> None:
    backend = LABELS[torch].removeprefix("+")
    assert f"{torch}) index=https://download.pytorch.org/whl/{backend} ;;" in (ROOT / "Dockerfile.runner").read_text()
    assert f"TORCH_BACKEND_{torch} := {backend}\n" in (ROOT / "Makefile").read_text()
