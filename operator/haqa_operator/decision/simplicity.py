"""Which of two configurations is simpler, where the measurements cannot tell them apart.

A total order, so that the answer does not depend on the order in which trials were made.
"""

from __future__ import annotations

from haqa_contract import Algorithm, Configuration, Scheme
from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.api.trial import Trial

_BITS: dict[str, tuple[int, int]] = {
    Scheme.BF16: (16, 16),
    Scheme.W8A16: (8, 16),
    Scheme.W4A16: (4, 16),
    Scheme.W4A16_ASYM: (4, 16),
    Scheme.NVFP4A16: (4, 16),
    Scheme.MXFP4A16: (4, 16),
    Scheme.W8A8_INT8: (8, 8),
    Scheme.FP8_DYNAMIC: (8, 8),
    Scheme.FP8_BLOCK: (8, 8),
    Scheme.MXFP8: (8, 8),
    Scheme.W4A8: (4, 8),
    Scheme.W4AFP8: (4, 8),
    Scheme.NVFP4: (4, 4),
    Scheme.MXFP4: (4, 4),
    Scheme.OTHER: (0, 0),
}
"""Bits of weights and activations."""

_WITHOUT_CALIBRATION = frozenset({Algorithm.NONE, Algorithm.PUBLISHED, Algorithm.RTN})

SimplicityKey = tuple[bool, bool, int, int, bool, float, str, int, str]


def simplicity(trial: Trial, reference: Configuration | None, score: float) -> SimplicityKey:
    """Sort key, simplest first.

    In this order: the baseline; the baseline's scheme before a quantized one; fewer engine settings that differ from
    the baseline's; fewer bits taken away from weights and activations (a scheme that HAQA does not know comes after
    those it knows); no calibration before calibration; then the better measured value, and last the configuration's
    text and the trial's number, which say nothing but make the order total.

    Args:
        reference: The baseline's configuration; None compares with the unquantized model and the engine's defaults.
        score: The objective, turned so that higher is better.
    """
    reference = reference or Configuration()
    parameters, usual = trial.configuration.parameters, reference.parameters
    scheme = parameters["scheme"]
    settings = (parameters.keys() | usual.keys()).difference(OF_WEIGHTS)
    return (
        not trial.is_baseline,
        scheme != usual["scheme"],
        sum(parameters.get(name) != usual.get(name) for name in settings),
        32 - sum(_BITS.get(str(scheme), (0, 0))),
        trial.configuration.algorithm not in _WITHOUT_CALIBRATION,
        -score,
        repr(sorted(parameters.items())),
        trial.number,
        trial.name,
    )
