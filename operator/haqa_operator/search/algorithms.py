"""Which quantization algorithm makes sense for which scheme.

From llm-compressor 0.14: GPTQ rounds any weights with the help of calibration data; SmoothQuant moves outliers from
activations into weights and so needs 8-bit integer activations; AWQ protects weights that matter and pays for 4-bit
integers; AutoRound learns the rounding. For 8-bit floating point plain rounding is within noise of all of them (the
model cards' own recipes use it), so nothing else is offered.
"""

from __future__ import annotations

from haqa_contract import Algorithm, Scheme

_CALIBRATED_4_BIT = (Algorithm.RTN, Algorithm.GPTQ, Algorithm.AUTOROUND)
_INTEGER_4_BIT = (Algorithm.RTN, Algorithm.GPTQ, Algorithm.AWQ, Algorithm.AUTOROUND)

APPLICABLE: dict[Scheme, tuple[Algorithm, ...]] = {
    Scheme.BF16: (Algorithm.NONE,),
    Scheme.W8A8_INT8: (Algorithm.RTN, Algorithm.GPTQ, Algorithm.SMOOTHQUANT, Algorithm.SMOOTHQUANT_GPTQ),
    Scheme.W4A16: _INTEGER_4_BIT,
    Scheme.W4A16_ASYM: _INTEGER_4_BIT,
    Scheme.W8A16: (Algorithm.RTN, Algorithm.GPTQ),
    Scheme.W4A8: (Algorithm.RTN, Algorithm.GPTQ, Algorithm.AWQ),
    Scheme.W4AFP8: (Algorithm.RTN, Algorithm.GPTQ, Algorithm.AWQ),
    Scheme.FP8_DYNAMIC: (Algorithm.RTN,),
    Scheme.FP8_BLOCK: (Algorithm.RTN,),
    Scheme.NVFP4: _CALIBRATED_4_BIT,
    Scheme.NVFP4A16: _CALIBRATED_4_BIT,
    Scheme.MXFP4: _CALIBRATED_4_BIT,
    Scheme.MXFP4A16: _CALIBRATED_4_BIT,
    Scheme.MXFP8: (Algorithm.RTN,),
    Scheme.OTHER: (),
}

DEFAULT: dict[Scheme, tuple[Algorithm, ...]] = {
    scheme: tuple(a for a in algorithms if a not in (Algorithm.AWQ, Algorithm.AUTOROUND, Algorithm.SMOOTHQUANT))
    for scheme, algorithms in APPLICABLE.items()
}
"""What is considered where `search.algorithms` is not given."""

NEEDS_ACCELERATOR = frozenset({Algorithm.AWQ})
"""llm-compressor 0.14's AWQ calls `pin_memory()`, which fails on a machine without an accelerator."""
