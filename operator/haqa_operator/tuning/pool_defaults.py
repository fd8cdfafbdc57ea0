"""What a pool is measured with where the tuning does not say: on accelerators other defaults than on CPUs.

On a CPU the defaults of the resource hold. On accelerators they would measure nothing that anybody serves: there the
levels go up to what the memory holds, prompts and answers have the lengths of a chat, and windows are long enough for
the noise of hundreds of streams. Whatever the tuning names stays as it is named.

What was filled in is part of what trials are compared by (`fingerprint`), shown in the pool's status, and kept: a pool
goes on with what its trials were measured with, whatever the defaults are by now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from haqa_contract import Algorithm, Configuration, Scheme
from haqa_contract.base import Contract
from haqa_operator.api import NodePool, TuningSpec
from haqa_operator.api.status import MeasuredWith
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.cases import Case
from haqa_operator.search.memory import memory_of
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.versions import parse_version

INPUT_TOKENS, OUTPUT_TOKENS = 512, 256
"""A chat, as guidellm's and vLLM's benchmarks have it."""
DATASET_INPUT_TOKENS = 1024
"""Where prompts come from a data set they have lengths of their own; longer ones are cut to this."""
WINDOW_S, REPEATS = 30.0, 4
"""Two scrapes of Prometheus at least, and an interval from four windows, which is 1.4 times as narrow as from three."""
EVALUATION_SAMPLES, EVALUATION_TOKENS = 128, 512
CALIBRATION_TOKENS = 2048
"""With 128 samples as GPTQ was calibrated (arXiv 2210.17323, section 4) and AWQ and others after it."""

_SINGLE, _FEW, _MOST = 1, 8, 256
"""What a single user sees; the CPUs' second level; vLLM's `max-num-seqs` on accelerators of less than 70 GiB."""
_BETWEEN = {128: (32,), 256: (64,)}
_UNKNOWN = 32
"""The highest level where it is not known what the memory holds."""


def pool_spec(
    spec: TuningSpec,
    pool: NodePool,
    accelerator: Accelerator,
    profile: ModelProfile,
    engine_version: str,
    *,
    recorded: Iterable[MeasuredWith],
    has_trials: Callable[[TuningSpec], bool],
) -> TuningSpec:
    """The tuning as one pool is measured: its own fields, with the defaults for the pool's hardware.

    Args:
        recorded: What the pool is known to have been measured with.
        has_trials: Whether there are trials that were measured so.
    """
    if accelerator.is_cpu:
        return spec
    fresh = filled(spec, accelerator_defaults(spec, pool, accelerator, profile, engine_version))
    earlier = (filled(spec, _values(one)) for one in recorded)
    # The last one is for runs of a time when accelerators had the defaults of CPUs.
    return next((one for one in (*earlier, fresh, spec) if has_trials(one)), fresh)


def measured_with(spec: TuningSpec) -> MeasuredWith:
    """What a pool's trials are measured with, by its `pool_spec`."""
    return MeasuredWith(workload=spec.workload, evaluation=spec.evaluation, calibration=spec.calibration)


def left_to_haqa(spec: TuningSpec) -> list[str]:
    """What is measured, before hardware and model are known: a line for each platform that the pools may have."""
    vendors = {pool.hardware.vendor if pool.hardware else None for pool in spec.node_pools}
    lines = []
    if vendors & {None, "cpu"}:
        lines.append(f"on CPUs: {measured_with(spec).describe()}")
    if vendors - {"cpu"}:
        full = filled(spec, _defaults(spec, spec.serving.max_model_len or math.inf, levels(math.inf)))
        by_memory = "" if "concurrency" in spec.workload.model_fields_set else "; levels as far as the memory goes"
        lines.append(f"on accelerators: {measured_with(full).describe()}{by_memory}")
    return lines


Defaults = Mapping[str, Mapping[str, Any]]
"""Section of the spec (`workload`, `evaluation`, `calibration`) -> its fields."""


def filled(spec: TuningSpec, defaults: Defaults) -> TuningSpec:
    """With these values where the tuning names none. Which fields it has named is still known of the result."""
    return spec.model_copy(update={name: _filled(getattr(spec, name), values) for name, values in defaults.items()})


def accelerator_defaults(
    spec: TuningSpec, pool: NodePool, accelerator: Accelerator, profile: ModelProfile, engine_version: str
) -> Defaults:
    """The defaults for one kind of accelerator and one model: levels by its memory, lengths that it serves."""
    longest = min(spec.serving.max_model_len or math.inf, profile.facts.max_positions or math.inf)
    with_lengths = filled(spec, {"workload": dict(_lengths(spec, longest))})
    held = _held(with_lengths, pool, accelerator, profile, engine_version)
    return _defaults(spec, longest, levels(held))


def _defaults(spec: TuningSpec, longest: float, levels: Iterable[int]) -> Defaults:
    """Args:
    longest: Tokens of the longest request that is served.
    levels: By the memory.
    """
    timed = {"duration_s": WINDOW_S} if spec.workload.requests_per_level is None else {}
    concurrency = tuple(sorted({*levels, *_named_levels(spec)}))
    return {
        "workload": {"concurrency": concurrency, "repeats": REPEATS, **dict(_lengths(spec, longest)), **timed},
        "evaluation": {"samples": EVALUATION_SAMPLES} | _window(EVALUATION_TOKENS, longest),
        "calibration": _window(CALIBRATION_TOKENS, longest),
    }


def levels(held: float | None) -> tuple[int, ...]:
    """Concurrency levels up to what the memory holds: powers of two, four at most, the highest 256.

    Args:
        held: Requests whose KV cache fits at once; None = not known.
    """
    top = _UNKNOWN if held is None else 2 ** int(math.log2(min(max(held, _SINGLE), _MOST)))
    if top <= _FEW:
        return tuple(sorted({_SINGLE, top}))
    return (_SINGLE, _FEW, *_BETWEEN.get(top, ()), top)


def _held(
    spec: TuningSpec, pool: NodePool, accelerator: Accelerator, profile: ModelProfile, engine_version: str
) -> float | None:
    """Requests that the memory holds beside the model as it was given; beside 4-bit weights where it does not fit."""
    fixed = spec.search.fixed_engine
    case = Case(
        accelerator,
        profile,
        Configuration(scheme=Scheme.BF16, engine=tuple(sorted(fixed.items()))),
        spec.workload,
        parse_version(engine_version),
        env=pool.env,
    )
    held = _sequences(case)
    if held is not None and held < 1:
        four_bit = case.configuration.model_copy(update={"scheme": Scheme.W4A16, "algorithm": Algorithm.RTN})
        held = _sequences(replace(case, configuration=four_bit))
    most = case.number("max-num-seqs")
    return held if held is None or most is None else min(held, most)


def _sequences(case: Case) -> float | None:
    memory = memory_of(case)
    return None if memory is None else memory.sequences(case.request_tokens)


def _lengths(spec: TuningSpec, longest: float) -> Iterator[tuple[str, int]]:
    """A chat's, unless that is longer than what is served."""
    workload, named = spec.workload, spec.workload.model_fields_set
    prompt = DATASET_INPUT_TOKENS if workload.dataset is not None else INPUT_TOKENS
    wanted = {"input_tokens": prompt, "output_tokens": OUTPUT_TOKENS}
    both = {name: getattr(workload, name) if name in named else tokens for name, tokens in wanted.items()}
    if sum(both.values()) <= longest:
        yield from both.items()


def _window(tokens: int, longest: float) -> dict[str, int]:
    """With room for the beginning of the sequence and one token more."""
    return {"sequence_length": tokens} if tokens + 2 <= longest else {}


def _named_levels(spec: TuningSpec) -> set[int]:
    """Levels that objectives and limits are about are measured."""
    named = [limit.concurrency for limit in spec.constraints]
    named += [objective.concurrency for objective in spec.objectives]
    return {level for level in named if level is not None}


def _values(recorded: MeasuredWith) -> Defaults:
    return {name: dict(getattr(recorded, name)) for name in MeasuredWith.model_fields}


def _filled(section: Contract, values: Mapping[str, Any]) -> Contract:
    own = section.model_fields_set
    given = {name: value for name, value in values.items() if name not in own}
    return type(section).model_construct(_fields_set=set(own), **{**dict(section), **given})
