"""From a configuration to the modifiers that llm-compressor shall apply: data in, data out.

Everything that can be known to fail is refused here, before a weight is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from haqa_contract import Algorithm, Configuration, FailureReason, Scheme
from haqa_contract.configuration import STATIC_ACTIVATIONS
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import Matrix, ModelFacts, Role

RECIPE_VERSION = 2
"""Part of every artifact's content address: raise it when the same configuration becomes another artifact."""

CHANNELWISE = -1
"""Group size that stands for one scale per output channel."""


class Modifier(StrEnum):
    """llm-compressor's classes."""

    QUANTIZATION = "QuantizationModifier"
    GPTQ = "GPTQModifier"
    AWQ = "AWQModifier"
    SMOOTHQUANT = "SmoothQuantModifier"
    AUTOROUND = "AutoRoundModifier"


_LINEAR = "Linear"
_OUTPUT_HEAD = "lm_head"
_HEAD_BY_NAME = rf"re:(.*\.)?{_OUTPUT_HEAD}$"
"""An engine's output head is no Linear layer, so that it is rounded where its name says so."""


@dataclass(frozen=True)
class ModifierPlan:
    """One modifier to apply.

    Attributes:
        modifier: Which.
        preset: Name of the number format in compressed-tensors; None for one that only transforms weights.
        group_size: Replaces the preset's own; `CHANNELWISE` for none.
        kv_cache: Calibrate scales for an FP8 KV cache too.
        ignore: Layers left alone, by name or `re:` pattern.
        targets: What is rounded, by class of layer, name or pattern.
        options: The modifier's own settings.
    """

    modifier: Modifier
    preset: str | None = None
    group_size: int | None = None
    kv_cache: bool = False
    ignore: tuple[str, ...] = ()
    targets: tuple[str, ...] = (_LINEAR,)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def calibrates(self) -> bool:
        """Whether it makes a pass over the calibration data of its own."""
        return self.modifier is not Modifier.QUANTIZATION or self.kv_cache or self.preset in _STATIC_ACTIVATIONS


_PRESETS = {
    Scheme.W8A8_INT8: "W8A8",
    Scheme.W4A16: "W4A16",
    Scheme.W4A16_ASYM: "W4A16_ASYM",
    Scheme.W8A16: "W8A16",
    Scheme.W4A8: "W4A8",
    Scheme.W4AFP8: "W4AFP8",
    Scheme.FP8_DYNAMIC: "FP8_DYNAMIC",
    Scheme.FP8_BLOCK: "FP8_BLOCK",
    Scheme.NVFP4: "NVFP4",
    Scheme.NVFP4A16: "NVFP4A16",
    Scheme.MXFP4: "MXFP4",
    Scheme.MXFP4A16: "MXFP4A16",
    Scheme.MXFP8: "MXFP8",
}

PACKED_PRESETS = frozenset({"W4AFP8"})
"""Saved with eight weights in an integer, as vLLM reads them (`_is_fp8_w4a8_sm90` in its compressed_tensors.py), where
llm-compressor would give each a byte of its own."""

_OWN_GROUP = {
    Scheme.W4A16: 128,
    Scheme.W4A16_ASYM: 128,
    Scheme.W8A16: 128,
    Scheme.W4A8: 128,
    Scheme.W4AFP8: 128,
    Scheme.NVFP4: 16,
    Scheme.NVFP4A16: 16,
    Scheme.MXFP4: 32,
    Scheme.MXFP4A16: 32,
    Scheme.MXFP8: 32,
}
"""Weights that share a scale, by the preset. Schemes that are not here have no groups along the columns."""

_FREE_GROUP = (Scheme.W4A16, Scheme.W4A16_ASYM, Scheme.W8A16, Scheme.W4A8, Scheme.W4AFP8)
"""Integer weights: the group size is a choice. The floating-point formats fix theirs."""

_GROUP_SIZES = (16, 32, 64, 128, 256)
"""Sizes to suggest."""

_STATIC_ACTIVATIONS = tuple(_PRESETS[scheme] for scheme in STATIC_ACTIVATIONS)

_ALGORITHMS: dict[Algorithm, tuple[Scheme, ...]] = {
    Algorithm.RTN: tuple(_PRESETS),
    Algorithm.GPTQ: tuple(_PRESETS),
    Algorithm.AWQ: _FREE_GROUP,
    Algorithm.SMOOTHQUANT: (Scheme.W8A8_INT8, Scheme.W4A8, Scheme.W4AFP8, Scheme.FP8_DYNAMIC),
    Algorithm.SMOOTHQUANT_GPTQ: (Scheme.W8A8_INT8, Scheme.W4A8, Scheme.W4AFP8, Scheme.FP8_DYNAMIC),
    Algorithm.AUTOROUND: (Scheme.W4A16, Scheme.W4A16_ASYM, Scheme.W8A16, Scheme.NVFP4, Scheme.MXFP4),
}
"""AWQ and SmoothQuant move scale between weights and activations: of no use where that side is not rounded."""

_SMOOTHING_STRENGTH = 0.8
"""llm-compressor's examples for W8A8 on Llama-like models; the paper (arXiv 2211.10438, 5.1) finds 0.5 to 0.85."""
_AUTOROUND_STEPS = 200
"""Its authors' default (arXiv 2309.05516, 4)."""


def recipe(
    configuration: Configuration, facts: ModelFacts, *, accelerator: bool, compiles: bool = True
) -> tuple[ModifierPlan, ...]:
    """The modifiers for a quantized configuration, in the order in which they are applied.

    Args:
        configuration: What is wanted; not the unquantized model.
        facts: Of the model that it is wanted for.
        accelerator: Whether this machine has a device other than the CPU.
        compiles: Whether kernels for it can be compiled here.

    Raises:
        TrialFailure: QuantizationFailed, for a combination that cannot work.
    """
    check_combination(configuration, facts, accelerator=accelerator)
    check_group_size(configuration, facts)
    preset = _PRESETS[configuration.scheme]
    ignore = left_alone(facts)
    targets = (_LINEAR, _HEAD_BY_NAME) if rounds_head(facts) else (_LINEAR,)
    kv_cache = configuration.calibrated_kv_cache is not None

    def rounding(modifier: Modifier, **options: Any) -> ModifierPlan:
        return ModifierPlan(modifier, preset, configuration.group_size, kv_cache, ignore, targets, options)

    smoothing = ModifierPlan(Modifier.SMOOTHQUANT, ignore=ignore, options={"smoothing_strength": _SMOOTHING_STRENGTH})
    match configuration.algorithm:
        case Algorithm.RTN:
            return (rounding(Modifier.QUANTIZATION),)
        case Algorithm.GPTQ:
            return (rounding(Modifier.GPTQ),)
        case Algorithm.SMOOTHQUANT:
            return (smoothing, rounding(Modifier.QUANTIZATION))
        case Algorithm.SMOOTHQUANT_GPTQ:
            return (smoothing, rounding(Modifier.GPTQ))
        case Algorithm.AWQ:
            # It leaves alone what the rounding leaves alone, and takes no list of its own.
            return (ModifierPlan(Modifier.AWQ), rounding(Modifier.QUANTIZATION))
        case Algorithm.AUTOROUND:
            # Compiling pays on an accelerator; on a CPU it takes longer than the tuning that it speeds up.
            return (
                rounding(Modifier.AUTOROUND, iters=_AUTOROUND_STEPS, enable_torch_compile=accelerator and compiles),
            )
        case _:
            raise _impossible(configuration, "the algorithm rounds nothing; name rtn, gptq or another one")


def left_alone(facts: ModelFacts) -> tuple[str, ...]:
    """What no modifier touches, as llm-compressor takes it: all but what is `Matrix.rounded`."""
    kept = [matrix.name for matrix in facts.matrices if not matrix.rounded]
    patterns = (r"(\.\d+)*\.".join(re.escape(part) for part in name.split(".")) for name in kept)
    named = (rf"re:(.*\.)?{pattern}$" for pattern in patterns)
    return tuple(dict.fromkeys((*(() if rounds_head(facts) else (_OUTPUT_HEAD,)), *named)))


def rounds_head(facts: ModelFacts) -> bool:
    """Whether the output head is rounded with the rest."""
    return any(matrix.rounded and matrix.role is Role.OUTPUT_HEAD for matrix in facts.matrices)


def check_combination(configuration: Configuration, facts: ModelFacts, *, accelerator: bool) -> None:
    """Raises TrialFailure for a scheme and algorithm that do not go together, here or with this model."""
    scheme, algorithm = configuration.scheme, configuration.algorithm
    if scheme not in _PRESETS:
        raise _impossible(configuration, "it has no format to round to; name a quantization scheme")
    if scheme not in _ALGORITHMS.get(algorithm, ()):
        able = [name.value for name, schemes in _ALGORITHMS.items() if scheme in schemes]
        raise _impossible(configuration, f"{algorithm.value} does not make {scheme.value}; use {', '.join(able)}")
    if algorithm is Algorithm.AWQ and not accelerator:
        raise _impossible(
            configuration,
            "AWQ needs an accelerator to quantize on (llm-compressor pins memory for it) and this machine has none; "
            "use gptq, or quantize on a machine that has one",
        )
    if facts.quantized_by is not None:
        raise _impossible(
            configuration,
            f"the model is quantized already ({facts.quantized_by}); name its unquantized original",
        )
    if not facts.architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        raise _impossible(configuration, f"{facts.architecture} is not a language model that llm-compressor can load")


def check_group_size(configuration: Configuration, facts: ModelFacts) -> None:
    """Raises TrialFailure if the scheme's groups do not fit the model's layers, naming one and the sizes that would."""
    scheme, wanted = configuration.scheme, configuration.group_size
    own = _OWN_GROUP.get(scheme)
    if wanted is not None and wanted != own and scheme not in _FREE_GROUP:
        fixed = f"its own is {own}" if own else "it has no groups"
        raise _impossible(
            configuration, f"{scheme.value} does not take groupSize {wanted}: {fixed}; leave groupSize out"
        )
    size = wanted if wanted is not None else own
    if size is None or size == CHANNELWISE:
        return
    if size < 1:
        raise _impossible(configuration, f"groupSize {size} is not a size; use {CHANNELWISE} for one scale per channel")
    linears = [matrix for matrix in facts.matrices if matrix.rounded]
    misfits = [linear for linear in linears if linear.columns % size]
    if misfits:
        raise _impossible(configuration, _misfit_sentence(size, misfits, linears, free=scheme in _FREE_GROUP))


def _misfit_sentence(size: int, misfits: Sequence[Matrix], linears: Sequence[Matrix], *, free: bool) -> str:
    first = misfits[0]
    more = sum(misfit.count for misfit in misfits) - 1
    others = f" and {more} more" if more else ""
    trouble = f"group size {size} does not divide the {first.columns} columns of {first.name}{others}"
    if not free:
        return f"{trouble}; use a scheme without groups, for example W8A8-INT8 or FP8-DYNAMIC"
    fitting = [str(other) for other in _GROUP_SIZES if all(linear.columns % other == 0 for linear in linears)]
    return f"{trouble}; group sizes that fit: {', '.join([*fitting, f'{CHANNELWISE} (one scale per channel)'])}"


def _impossible(configuration: Configuration, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.QUANTIZATION_FAILED, f"{configuration.describe()}: {why}")


def is_artifacts_own(name: str) -> bool:
    """Whether quantizing writes a file of this name itself; all others are copied from the model as they are."""
    return name == "config.json" or name.endswith((".safetensors", ".safetensors.index.json"))
