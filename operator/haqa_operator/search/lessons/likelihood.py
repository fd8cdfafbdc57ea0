"""Which of several explanations of a failure is the likeliest.

First what the message mentions; then the scheme (several on the same kernels before one of them), since number formats
are what kernels are made for; then what else selects kernels or numbers; then everything else; last what a
configuration leaves to the engine. Of quantizing: memory goes with how an algorithm calibrates, and plain rounding has
nothing that fails but the format.
"""

from __future__ import annotations

from haqa_contract import Algorithm, FailureReason
from haqa_operator.search.lessons.causes import Stage, named_in
from haqa_operator.search.lessons.evidence import Evidence, Failed
from haqa_operator.search.lessons.traits import Explanation, Trait

_KERNELS_AND_NUMBERS = (
    "VLLM_ROCM_",
    "VLLM_USE_",
    "backend",
    "block-size",
    "compilation",
    "dtype",
    "eager",
    "quant",
    "spec",
)
"""Parts of the names of such settings."""


def may_be_blamed(evidence: Evidence, explanation: Explanation, failed: Failed) -> bool:
    """Whether no number is in it that the message does not mention: what is too much depends on everything else."""
    return all(_mentioned(evidence, trait, failed) or not _is_amount(evidence, trait, failed) for trait in explanation)


def unlikeliness(evidence: Evidence, explanation: Explanation, failed: Failed) -> tuple[float, ...]:
    """Smaller is likelier."""
    return tuple(sorted(_rank(evidence, trait, failed) for trait in explanation))


def _rank(evidence: Evidence, trait: Trait, failed: Failed) -> float:
    name, value = evidence.codes.names[trait.column], evidence.codes.values[trait.column][trait.codes[0]]
    if _mentioned(evidence, trait, failed) and value is not None:
        return 0
    if failed.cause.stage is Stage.QUANTIZE:
        return 1 if name == _first_of_quantizing(failed) else 2
    if name == "scheme":
        return 1 if len(trait.codes) > 1 else 1.5
    if value is None:
        return 4
    return 2 if any(part in name for part in _KERNELS_AND_NUMBERS) else 3


def _first_of_quantizing(failed: Failed) -> str:
    failure = failed.trial.status.failure
    memory = failure is not None and failure.reason is FailureReason.QUANTIZATION_OOM
    plain = failed.trial.configuration.algorithm is Algorithm.RTN
    return "scheme" if plain and not memory else "algorithm"


def _mentioned(evidence: Evidence, trait: Trait, failed: Failed) -> bool:
    """A message speaks of schemes in general, and never of the one that is at fault."""
    failure, name = failed.trial.status.failure, evidence.codes.names[trait.column]
    return failure is not None and name != "scheme" and bool(named_in(failure.message, [name]))


def _is_amount(evidence: Evidence, trait: Trait, failed: Failed) -> bool:
    values = evidence.codes.values[trait.column]
    own = values[trait.codes[0]]
    counted = any(_is_number(value) for value in values) if own is None else _is_number(own)
    return counted and failed.cause.stage is not Stage.QUANTIZE


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
