"""What is expected of a metric before this tuning has measured anything but its baseline, and how far that may be off.

Means and deviations are in natural logarithms of the metric, relative to the baseline. Those of serving metrics in
tables (loads, accelerators, columns that HAQA does not know) were fitted on the development half of the published
tables, see docs/benchmarks.md; those of accuracy follow the published losses by format: within half a percent with
eight bits, a few percent of perplexity with four.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from haqa_contract import Algorithm, Configuration
from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.api.metrics import RATES, MetricKey, is_accuracy
from haqa_operator.search.number_formats import FORMATS
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.surrogate.features import ACTIVATION_BITS, WEIGHT_BITS, Features, Matrix
from haqa_operator.search.surrogate.kernel import Scales
from haqa_operator.search.surrogate.rows import Rows
from haqa_operator.serving.environment import is_variable
from haqa_operator.serving.settings import catalogue

_LOG2 = float(np.log(2))

_RATE_BY_LOAD, _RATE_BY_ACCELERATORS = 0.55 * _LOG2, -0.45 * _LOG2
_LATENCY_BY_LOAD, _LATENCY_BY_ACCELERATORS = 0.45 * _LOG2, -0.5 * _LOG2
"""Of a doubling; the rate of one accelerator."""

_ENGINES = {"vllm": (0.0, 0.0), "tensorrtllm": (0.1, -0.15), "deepspeedmii": (-0.35, 0.3), "llamacpp": (-3.0, 0.3)}
"""Serving systems by the letters of their names: rate and latency against vLLM's."""

_LOSS_BY_BITS = {16: 0.0, 8: 0.004, 4: 0.03}
_CALIBRATED = 0.6
_CACHED_IN_8_BITS = 0.002
"""Perplexity in 8 and 4 bits with plain rounding; what calibration leaves of it."""


class Expectation(Protocol):
    """Logarithm of a metric over the baseline's for each configuration, before any is measured."""

    def __call__(
        self, key: MetricKey, space: SearchSpace, rows: Rows, configurations: Sequence[Configuration]
    ) -> npt.NDArray[np.float64]: ...


def expected(
    key: MetricKey, space: SearchSpace, rows: Rows, configurations: Sequence[Configuration]
) -> npt.NDArray[np.float64]:
    """What HAQA expects: an `Expectation`."""
    if is_accuracy(key.metric):
        losses = np.array([_loss(c) - _loss(space.baseline) for c in configurations])
        return losses if key.metric == "perplexity" else -losses
    rate = key.metric in RATES or key.metric.lower().startswith(("throughput", "tokens", "requests"))
    table, speeds = rows.of(configurations), rows.logarithms(space.speeds, configurations)
    total = (speeds if rate else -speeds) + _of_systems(rows.features, table, rate)
    for column, name in enumerate(rows.features.numbers):
        total = total + _slope(name, space, rate) * table[:, column]
    return np.asarray(total)


def _of_systems(features: Features, table: Matrix, rate: bool) -> npt.NDArray[np.float64]:
    """What the names of serving systems say, where a table has several."""
    total = np.zeros(len(table))
    for column, (name, codes) in enumerate(features.categories.items(), start=len(features.numbers)):
        if _known(name):
            continue
        for text, code in codes.items():
            factors = _ENGINES.get(re.sub(r"[^a-z]", "", text.lower()))
            if factors is not None:
                total[table[:, column] == code] += factors[0 if rate else 1]
    return total


def _slope(name: str, space: SearchSpace, rate: bool) -> float:
    if name in space.load_parameters:
        return _RATE_BY_LOAD if rate else _LATENCY_BY_LOAD
    if name in space.accelerator_parameters:
        return _RATE_BY_ACCELERATORS if rate else _LATENCY_BY_ACCELERATORS
    return 0.0


def _loss(configuration: Configuration) -> float:
    loss = _LOSS_BY_BITS[FORMATS[configuration.scheme].weight_bits]
    kept = 1.0 if configuration.algorithm in (Algorithm.NONE, Algorithm.RTN) else _CALIBRATED
    cached = str(configuration.settings.get("kv-cache-dtype", "auto")).startswith("fp8")
    return loss * kept + (_CACHED_IN_8_BITS if cached else 0.0)


def scales_of(key: MetricKey, space: SearchSpace, features: Features) -> Scales:
    """How far each parameter may move the metric away from what is expected."""
    if is_accuracy(key.metric):
        return Scales(
            slopes=tuple(0.01 if name in (WEIGHT_BITS, ACTIVATION_BITS) else 0.001 for name in features.numbers),
            offsets=tuple(_ACCURACY_OFFSETS.get(name, 0.001) for name in features.categories),
            interplay=0.0,
            rest=0.003,
            reach=1.5,
            shared=0.6,
        )
    unknown = any(not _known(name) for name in features.categories)
    return Scales(
        slopes=tuple(_serving_slope(name, space) for name in features.numbers),
        offsets=tuple(_serving_offset(name) for name in features.categories),
        interplay=0.08 if unknown else 0.03,
        rest=0.3 if unknown else 0.06,
        reach=1.5,
        shared=0.7,
    )


_ACCURACY_OFFSETS = {
    "scheme": 0.02,
    "algorithm": 0.004,
    "group-size": 0.01,
    "variant": 0.015,
    "kv-cache-dtype": 0.01,
    "dtype": 0.003,
}
"""What an algorithm does depends on the format that it rounds to: by itself it says little."""


def _serving_slope(name: str, space: SearchSpace) -> float:
    if name in space.load_parameters:
        return 0.2 * _LOG2
    return 0.35 * _LOG2 if name in space.accelerator_parameters else 0.15 * _LOG2


def _serving_offset(name: str) -> float:
    if name == "scheme":
        return 0.35
    return _MINOR.get(name, 0.2 if _known(name) else 0.8)


_MINOR = {
    "algorithm": 0.03,
    "group-size": 0.03,
    "variant": 0.05,
    "kv-cache-dtype": 0.1,
    "max-num-seqs": 0.1,
    **dict.fromkeys(
        (
            "block-size",
            "compilation-config",
            "optimization-level",
            "performance-mode",
            "max-cudagraph-capture-size",
            "gpu-memory-utilization",
            "VLLM_CPU_ATTN_SPLIT_KV",
            "VLLM_MARLIN_USE_ATOMIC_ADD",
            "VLLM_XPU_USE_SAMPLER_KERNEL",
        ),
        0.05,
    ),
}
"""What is taken to change less: a tenth at most, most of it a few percent."""


def _known(name: str) -> bool:
    """Whether it is a setting of the engine and not somebody's column."""
    return name in OF_WEIGHTS or name in catalogue().settings or is_variable(name)
