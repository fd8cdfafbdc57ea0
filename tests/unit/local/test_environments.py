"""What the environments of this machine bring along."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_operator.local import environments
from haqa_operator.local.environments import preloads, serving_environment


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of one on which nothing is installed; its folders are `lib` and `venv`."""
    monkeypatch.setattr(environments, "_LIBRARIES", (tmp_path / "lib",))
    for name in ("lib", "venv/bin", "venv/lib"):
        (tmp_path / name).mkdir(parents=True)
    return {"HAQA_SERVING_PYTHON": str(tmp_path / "venv/bin/python")}


def test_libraries_to_preload_are_those_that_are_there(machine: dict[str, str], tmp_path: Path) -> None:
    serving = serving_environment(machine)
    assert preloads(serving, machine) == ()
    openmp, allocator = tmp_path / "venv/lib/libiomp5.so", tmp_path / "lib/libtcmalloc_minimal.so.4"
    openmp.touch()
    assert preloads(serving, machine) == (str(openmp),)
    allocator.touch()
    assert preloads(serving, machine) == (str(allocator), str(openmp))


def test_what_the_user_preloads_is_left_alone(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "venv/lib/libiomp5.so").touch()
    assert preloads(serving_environment(machine), {**machine, "LD_PRELOAD": "/opt/own.so"}) == ()
