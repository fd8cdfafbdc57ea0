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
) -> str:
    """Twelve hexadecimal digits over everything that a measured number depends on, the configuration excepted.

    `serving` counts where it says something. Where it does not, a pool goes on with what its trials were measured with
    (`serving.model_length`), so that a default which changed neither mixes numbers nor throws them away.

    Args:
        adapters: Of the model, name -> digest.
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
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
