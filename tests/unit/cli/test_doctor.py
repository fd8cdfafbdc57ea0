"""What `haqa doctor` finds out about a C compiler, which Triton needs on an accelerator."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sample_pools import CPU, L40S

from haqa_operator.cli import doctor
from haqa_operator.cli.doctor import Finding, Level, examine
from haqa_operator.hardware.accelerators import Accelerator


def compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator, path: Path) -> list[Finding]:
    monkeypatch.setattr(doctor, "detect", lambda env, override: accelerator)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("CC", raising=False)
    return [finding for finding in examine(tmp_path) if finding.what.startswith("C compiler")]


def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, headers: bool) -> None:
    """Both environments on a Python with or without its headers."""
    base = tmp_path / "base"
    (base / "bin").mkdir(parents=True)
    if headers:
        (base / "include" / "python3.11").mkdir(parents=True)
        (base / "include" / "python3.11" / "Python.h").touch()
    for name in ("RUNNER", "SERVING"):
        folder = tmp_path / name
        (folder / "bin").mkdir(parents=True)
        (folder / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.11.2\n")
        monkeypatch.setenv(f"HAQA_{name}_PYTHON", str(folder / "bin" / "python"))


def with_gcc(folder: Path) -> Path:
    folder.mkdir()
    (folder / "gcc").touch(mode=0o755)
    return folder


def test_an_accelerator_without_a_compiler_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, headers=True)
    (finding,) = compilers(tmp_path, monkeypatch, L40S, tmp_path / "empty")
    assert finding.level is Level.MISSING
    assert finding.found == "neither gcc nor clang is on the PATH, and CC names none"
    assert "apt-get install gcc libc6-dev" in finding.remedy


def test_a_compiler_without_pythons_headers_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, headers=False)
    (finding,) = compilers(tmp_path, monkeypatch, L40S, with_gcc(tmp_path / "tools"))
    assert finding.level is Level.MISSING
    assert "Python.h is missing for the Python of the environments runner and serving" in finding.found
    assert "apt-get install python3-dev" in finding.remedy


def test_a_compiler_with_headers_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(tmp_path, monkeypatch, headers=True)
    path = with_gcc(tmp_path / "tools")
    (finding,) = compilers(tmp_path, monkeypatch, L40S, path)
    assert (finding.level, finding.found) == (Level.OK, str(path / "gcc"))


def test_a_machine_without_an_accelerator_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(tmp_path, monkeypatch, headers=False)
    assert compilers(tmp_path, monkeypatch, CPU, tmp_path / "empty") == []


def runner_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A runner's environment with all that is asked for, and this in place of its interpreter."""
    python = tmp_path / "runner" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    packages = tmp_path / "runner" / "lib" / "python3.11" / "site-packages"
    for name in ("llmcompressor", "guidellm", "lm_eval", "torch", "transformers"):
        metadata = packages / f"{name}-1.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    monkeypatch.setenv("HAQA_RUNNER_PYTHON", str(python))


def torch_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator) -> list[Finding]:
    monkeypatch.setattr(doctor, "detect", lambda env, override: accelerator)
    return [finding for finding in examine(tmp_path) if finding.what.startswith("torch")]


def test_a_torch_that_cannot_use_the_accelerator_is_named_in_the_runners_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner_that(tmp_path, monkeypatch, 'echo "$3: cause and remedy"; exit 1')
    (finding,) = torch_of(tmp_path, monkeypatch, L40S)
    assert (finding.level, finding.found) == (Level.MISSING, "nvidia: cause and remedy")


def test_a_torch_that_can_use_it_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner_that(tmp_path, monkeypatch, 'echo "torch 2.13.0 (for CUDA 13.0)"')
    (finding,) = torch_of(tmp_path, monkeypatch, L40S)
    assert (finding.level, finding.found) == (Level.OK, "torch 2.13.0 (for CUDA 13.0)")


def test_a_runner_that_does_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner_that(tmp_path, monkeypatch, "echo 'no module named haqa_runner' >&2; exit 1")
    (finding,) = torch_of(tmp_path, monkeypatch, L40S)
    assert (finding.level, finding.found) == (Level.MISSING, "no module named haqa_runner")
    assert "make envs" in finding.remedy


def test_torch_is_not_started_where_there_is_no_accelerator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner_that(tmp_path, monkeypatch, "exit 1")
    assert torch_of(tmp_path, monkeypatch, CPU) == []
