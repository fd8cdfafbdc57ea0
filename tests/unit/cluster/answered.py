"""Tunings whose answers come one after the other, and letting time pass."""

from __future__ import annotations

from typing import Any

from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_operator.api.manifests import Manifest


def searching(*schemes: str) -> dict[str, Any]:
    return {"strategy": "grid", "schemes": list(schemes), "algorithms": ["rtn"], "engineDefaults": False}


FIRST = {**ONE_POOL, "search": searching("BF16", "W4A16")}
BETTER = {**ONE_POOL, "search": searching("BF16", "W4A16", "W8A8-INT8")}


def answer(operated: Operated) -> Manifest:
    found: Manifest = operated.pool("full")["answer"]
    return found


def settle(operated: Operated, moments: int = 6) -> None:
    for _ in range(moments):
        operated.reconcile()
        operated.cluster.step()
    operated.reconcile()
