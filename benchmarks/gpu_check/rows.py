"""What is tried: four formats with two algorithms each, an FP8 KV cache, and an engine that compiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from haqa_contract import Algorithm, Configuration, Scalar, Scheme

FORMATS = (
    Scheme.FP8_DYNAMIC,
    Scheme.W4A16,
    Scheme.W8A8_INT8,
    Scheme.NVFP4,
    Scheme.MXFP4,
    Scheme.FP8_BLOCK,
    Scheme.MXFP8,
)
"""In the order in which they are taken, as far as the device has them by HAQA's own rules."""
COUNT = 4
_FIRST_ALGORITHM = {Scheme.W4A16: Algorithm.GPTQ, Scheme.W8A8_INT8: Algorithm.GPTQ}
_EAGER: Mapping[str, Scalar] = {"enforce-eager": True}
"""Compiling takes longer than all the rest of a row; one row does it."""
_HALF: Mapping[str, Scalar] = {"gpu-memory-utilization": 0.5}
"""More than the model needs, and little enough for a card that also shows a desktop."""
_FP8_CACHE: Mapping[str, Scalar] = {"kv-cache-dtype": "fp8"}


@dataclass(frozen=True)
class Row:
    """One configuration, or a format that was left out.

    Attributes:
        refused: Why HAQA would not try it; it is not run then.
    """

    configuration: Configuration
    refused: str | None = None


def rows(refusal: Callable[[Scheme], str | None], *, on_cpu: bool) -> tuple[Row, ...]:
    """The rows in the order in which they are run: what says most comes first, for when time runs out.

    Args:
        refusal: Why the device cannot serve a format, by HAQA's rules; None where nothing is known against it.
        on_cpu: Then no FP8 KV cache and no compilation are tried.
    """
    settings = _EAGER if on_cpu else {**_EAGER, **_HALF}
    taken: list[Scheme] = []
    refused: list[Row] = []
    for scheme in FORMATS:
        if len(taken) == COUNT:
            break
        if reason := refusal(scheme):
            refused.append(Row(_configuration(scheme, Algorithm.RTN), reason))
        else:
            taken.append(scheme)
    first = [(scheme, _FIRST_ALGORITHM.get(scheme, Algorithm.RTN)) for scheme in taken]
    second = [(scheme, Algorithm.RTN if algorithm is Algorithm.GPTQ else Algorithm.GPTQ) for scheme, algorithm in first]
    unquantized = (Scheme.BF16, Algorithm.NONE)
    head = first[0] if first else unquantized
    beyond = [] if on_cpu else [_configuration(*head, {**settings, **_FP8_CACHE}), _configuration(*head, _HALF)]
    return (
        Row(_configuration(*unquantized, settings)),
        *(Row(_configuration(*made, settings)) for made in first),
        *(Row(configuration) for configuration in beyond),
        *(Row(_configuration(*made, settings)) for made in second),
        *refused,
    )


def _configuration(scheme: Scheme, algorithm: Algorithm, settings: Mapping[str, Scalar] | None = None) -> Configuration:
    return Configuration(scheme=scheme, algorithm=algorithm, engine=tuple(sorted((settings or {}).items())))
