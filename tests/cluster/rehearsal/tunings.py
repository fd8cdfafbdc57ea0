"""What is rehearsed: one model of 70 billion parameters on three kinds of GPUs, and on one GPU that is too small."""

from __future__ import annotations

from typing import Any

from tests.cluster.kubectl import Manifest
from tests.cluster.rehearsal.rig import MODEL

POOLS: dict[str, dict[str, Any]] = {
    "l40s": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S"}, "gpusPerReplica": 4},
    "h100": {"nodeSelector": {"haqa.dev/pool": "h100-pair"}, "gpusPerReplica": 2},
    "mi300x": {"nodeSelector": {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "gpusPerReplica": 1},
}
LIMITS: dict[str, Any] = {
    "constraints": [{"metric": "perplexity", "max": 5.5}],
    "search": {
        "strategy": "grid",
        "schemes": ["FP8-DYNAMIC"],
        "engineDefaults": False,
        "engine": {"max-num-batched-tokens": [2048, 8192], "gpu-memory-utilization": [0.92, 0.99]},
    },
    "output": {"mode": "Manifest"},
}
"""Eight bits a weight on one H100: by the control plane's lower bound all of these may fit, and one does."""
SMALL: dict[str, dict[str, Any]] = {
    "h100-single": {"nodeSelector": {"haqa.dev/pool": "h100-single"}, "gpusPerReplica": 1}
}
"""The unquantized model does not fit."""


def rehearsed(name: str, pools: dict[str, dict[str, Any]], **spec: Any) -> Manifest:
    """A tuning as a user would write it: HAQA chooses formats and settings.

    Prompts as of a chat, a few users and many; a model that guesses text at most 5 % worse.
    """
    return {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTuning",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"pvc://models/{MODEL}"},
            "nodePools": [{"name": pool, **given} for pool, given in pools.items()],
            "serving": {"maxModelLen": 8192},
            "workload": {"inputTokens": 512, "outputTokens": 256, "concurrency": [16, 128], "repeats": 3},
            "constraints": [{"metric": "perplexity", "maxDegradationPercent": 5}],
            "search": {"strategy": "bayesian"},
            "artifacts": {"pvc": "artifacts"},
            "budget": {"maxTrials": 8, "trialTimeout": "5m"},
            **spec,
        },
    }
