"""What quantizing keeps in host memory: the operator asks for that much, the runner goes by it.

Measured by `benchmarks.quantize_memory`; docs/models.md has the figures.
"""

from __future__ import annotations

from typing import Final

WHOLE_MODEL_COPIES: Final = 1.8
LIBRARIES_BYTES: Final = 2**30
"""Rounding a model in one piece keeps so many times its weights at its peak, and what is imported."""

ACTIVATION_COPIES: Final = 3
"""Inputs and outputs of the layer at work, and the position embeddings that go with every sample."""
BYTES_PER_VALUE: Final = 2


def whole_model_bytes(weight_bytes: int) -> int:
    """Of host memory, to round a model in one piece."""
    return int(weight_bytes * WHOLE_MODEL_COPIES) + LIBRARIES_BYTES


def activation_bytes(tokens: int, hidden_size: int) -> int:
    """That calibration keeps between two layers, for this much text."""
    return tokens * hidden_size * BYTES_PER_VALUE * ACTIVATION_COPIES
