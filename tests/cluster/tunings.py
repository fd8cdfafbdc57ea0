"""The small tuning of most tests: three schemes on the stub engine, over in seconds."""

from __future__ import annotations

from typing import Any

from tests.cluster.kubectl import Manifest


def tuning(name: str = "demo", pools: tuple[str, ...] = ("full", "avx2"), **spec: Any) -> Manifest:
    """With the claims of `workplace.supplied`; `spec` replaces whole fields of its spec."""
    return {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTuning",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "pvc://models/model"},
            "nodePools": [{"name": pool, "nodeSelector": {"haqa.dev/pool": pool}} for pool in pools],
            "workload": {"inputTokens": 32, "outputTokens": 32, "concurrency": [1, 8], "repeats": 3},
            "constraints": [{"metric": "perplexity", "maxDegradationPercent": 5}],
            "search": {
                "strategy": "grid",
                "schemes": ["BF16", "W8A8-INT8", "W4A16"],
                "algorithms": ["rtn"],
                "engineDefaults": False,
            },
            "artifacts": {"pvc": "artifacts"},
            "budget": {"maxTrials": 5, "trialTimeout": "5m"},
            "confirmation": {"rounds": 0},
            **spec,
        },
    }


def pool_of(found: Manifest, name: str) -> Manifest:
    """A pool of the tuning's status."""
    pool: Manifest = next(pool for pool in found["status"]["pools"] if pool["name"] == name)
    return pool
