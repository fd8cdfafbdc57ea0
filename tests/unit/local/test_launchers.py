"""Which worker an engine's own process will start, so that its imports go on meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from haqa_operator.local import launchers

PYTHON = Path("/venv/bin/python")


@pytest.mark.parametrize(
    ("env", "cores"),
    [
        ({}, "0 1 2"),
        ({"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}, "0 1 2 3"),
        ({"VLLM_CPU_NUM_OF_RESERVED_CPU": "2"}, "0 1"),
        ({"VLLM_CPU_OMP_THREADS_BIND": "auto"}, "0 1 2"),
        ({"VLLM_CPU_OMP_THREADS_BIND": "0-1"}, None),
        ({"VLLM_CPU_NUM_OF_RESERVED_CPU": "many"}, None),
    ],
)
def test_the_worker_has_all_cores_but_those_that_are_reserved(
    env: dict[str, str], cores: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    found = [worker["GOMP_CPU_AFFINITY"] for worker in launchers._worker_environments(env, PYTHON)]
    assert found == ([] if cores is None else [cores])
