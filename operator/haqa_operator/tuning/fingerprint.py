"""Which trials may be compared: those measured the same way on the same machine.

Results are kept under this fingerprint. A changed constraint, budget or search space finds the old trials again and
goes on from them; a changed model, workload or machine starts anew, and the old results stay where they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from haqa_operator.api import NodePool, TuningSpec
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.hardware.instruction_sets import onednn_isa


def fingerprint(
    spec: TuningSpec,
    pool: NodePool,
    accelerator: Accelerator,
    model_digest: str,
    engine_version: str,
    adapters: Mapping[str, str] | None = None,
    again: str = "",
) -> str:
    """Twelve hexadecimal digits over everything that a measured number depends on, the configuration excepted.

    `serving` counts where it says something. Where it does not, a pool goes on with what its trials were measured with
    (`serving.model_length`), so that a default which changed neither mixes numbers nor throws them away.

    Args:
        adapters: Of the model, name -> digest.
        again: Any text by which somebody has everything measured once more.
    """
    parts: dict[str, Any] = {
        "model": model_digest,
        "workload": spec.workload.model_dump(mode="json"),
        "evaluation": spec.evaluation.model_dump(mode="json"),
        "calibration": spec.calibration.model_dump(mode="json"),
        "fixedEngine": spec.search.fixed_engine,
        "env": pool.env,
        "hardware": [
            accelerator.vendor,
            accelerator.product,
            accelerator.count,
            onednn_isa(accelerator),
            accelerator.cores,
        ],
        "engine": engine_version,
    }
    if accelerator.sharing:
        parts["sharing"] = accelerator.sharing
    if serving := spec.serving.model_dump(mode="json", exclude_none=True):
        parts["serving"] = serving
    if adapters:
        parts["adapters"] = dict(adapters)
    if spec.search.quantize_head:
        parts["quantizeHead"] = True
    if again:
        parts["again"] = again
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


_NOT_ASKED = frozenset({"output", "suspend", "parallel_trials", "queue_name", "node_pools"})
"""Parts of the spec that say how an answer is worked out or what becomes of it, and not what it is."""
_PRICE = frozenset({"cost_per_hour"})
"""The same for all of a pool's configurations, so that another one makes no other the best."""


def asked(spec: TuningSpec, pool: NodePool, again: str = "") -> str:
    """Twelve hexadecimal digits over the question that a pool's answer is the answer to.

    Unlike the fingerprint nothing of the installation or the nodes is in it: an operator, an image or a node that
    changes asks nothing.

    Args:
        again: Any text by which somebody asks once more.
    """
    parts = {
        # What nobody has written is left out: another operator may have other defaults.
        "spec": spec.model_dump(mode="json", exclude_unset=True, exclude=set(_NOT_ASKED)),
        "pool": pool.model_dump(mode="json", exclude_unset=True, exclude=set(_PRICE)),
        "again": again,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
