"""How large things become: artifacts on disk, and what quantizing keeps in memory."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_contract import Calibration, FailureReason, Scheme
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import ModelFacts
from haqa_contract.quantizing import BYTES_PER_VALUE, activation_bytes, whole_model_bytes
from haqa_runner.disk import size_text

_WEIGHT_BITS = {
    Scheme.BF16: 16.0,
    Scheme.W8A8_INT8: 8.1,
    Scheme.W8A16: 8.2,
    Scheme.W4A16: 4.2,
    Scheme.W4A16_ASYM: 4.3,
    Scheme.W4A8: 8.2,
    Scheme.W4AFP8: 4.2,
    Scheme.FP8_DYNAMIC: 8.1,
    Scheme.FP8_BLOCK: 8.1,
    Scheme.NVFP4: 4.6,
    Scheme.NVFP4A16: 4.6,
    Scheme.MXFP4: 4.3,
    Scheme.MXFP4A16: 4.3,
    Scheme.MXFP8: 8.3,
}
"""Bits per weight with scales. compressed-tensors keeps the 4-bit weights of W4A8 in a byte each."""

_DISK_MARGIN = 1.05
_TOKENIZER_BYTES = 24 * 2**20
"""Tokenizer and configuration files, on the generous side."""
_MEMORY_SHARE = 0.5
"""Of what the weights leave free, this much may hold calibration activations."""
_WEIGHT_COPIES = 1.5
"""The model, and what loading, one layer's Hessian and saving hold beside it."""


def artifact_bytes(facts: ModelFacts, scheme: Scheme) -> int:
    """About how large the artifact will be on disk, with a margin."""
    rounded = sum(matrix.parameters for matrix in facts.matrices if matrix.rounded)
    kept = max(0, (facts.weight_bytes or 0) - rounded * BYTES_PER_VALUE)
    return int((rounded * _WEIGHT_BITS[scheme] / 8 + kept) * _DISK_MARGIN) + _TOKENIZER_BYTES


def fits_whole(facts: ModelFacts, memory_bytes: int) -> bool:
    """Whether a model may be loaded in one piece to be rounded, in `memory_bytes` of host memory in all."""
    return whole_model_bytes(facts.weight_bytes or 0) <= memory_bytes


@dataclass(frozen=True)
class SamplePlan:
    """How many calibration samples are used, and why not all if so."""

    samples: int
    warning: str | None = None


def plan_samples(calibration: Calibration, facts: ModelFacts, memory_bytes: int) -> SamplePlan:
    """Bounds the samples by the memory that their activations take.

    llm-compressor's sequential pipeline works layer by layer and keeps every sample's hidden state between layers:
    samples x tokens x hidden size, in host memory (its issues 1409, 1539 and 2039 tell of machines that died of it).
    The bound depends on the machine's size and not on what is free at the moment, so that the same request means the
    same artifact on every node of a pool.

    Args:
        calibration: What was asked for.
        facts: Of the model.
        memory_bytes: What the machine or the container has in all.

    Raises:
        TrialFailure: QuantizationOOM, if the weights alone do not fit.
    """
    weights = int((facts.weight_bytes or 0) * _WEIGHT_COPIES)
    free = memory_bytes - weights
    if free <= 0:
        raise TrialFailure(
            FailureReason.QUANTIZATION_OOM,
            f"quantizing keeps about {size_text(weights)} of weights in memory and there is {size_text(memory_bytes)} "
            "of it; give the container or machine more memory",
        )
    per_sample = activation_bytes(calibration.sequence_length, facts.hidden_size)
    fitting = max(1, int(free * _MEMORY_SHARE) // max(1, per_sample))
    if fitting >= calibration.samples:
        return SamplePlan(calibration.samples)
    return SamplePlan(
        fitting,
        f"calibrated with {fitting} of {calibration.samples} samples: their activations take {size_text(per_sample)} "
        f"each and {size_text(free * _MEMORY_SHARE)} of {size_text(memory_bytes)} are set aside for them",
    )
