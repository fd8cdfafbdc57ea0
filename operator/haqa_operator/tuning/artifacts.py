"""Which trials serve the same artifact, before it is made. Pure: the same for every pool of a tuning."""

from __future__ import annotations

import hashlib
import json

from haqa_contract import Calibration, Configuration

_LENGTH = 10


def artifact_name(
    configuration: Configuration, model_digest: str, calibration: Calibration, *, output_head: bool = False
) -> str:
    """Short name of what a configuration makes of the model: equal where one artifact serves both.

    It is no content address, since that depends on the model's files and on the tools; it tells artifacts of one tuning
    apart, in names of Jobs and in labels.
    """
    decides = [
        model_digest,
        configuration.scheme.value,
        configuration.algorithm.value,
        configuration.group_size,
        configuration.calibrated_kv_cache,
        calibration.model_dump(mode="json") if configuration.calibrated else None,
        output_head,
    ]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:_LENGTH]
