"""Whether Triton could compile here, asked of a real compiler and of some that do not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_runner.quantize.compiler import compiler_problem


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    compiler_problem.cache_clear()


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_compiler_with_pythons_headers_is_no_problem() -> None:
    assert compiler_problem() is None


def test_no_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler_problem() == "there is no C compiler (CC, gcc or clang)"


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_a_compiler_without_pythons_headers_is_named_with_its_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "probe.c:1:10: fatal error: Python.h: No such file or directory"
    compiler = program(tmp_path / name, f"echo '{says}' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = compiler_problem()
    assert problem == f"the C compiler {compiler} does not work (Python.h: No such file or directory)"


def test_cc_goes_before_what_is_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    problem = compiler_problem()
    assert problem is not None
    assert "no-such-compiler does not work" in problem
