"""Ways to split a replica's accelerators, and what they should bring.

All accelerators of a replica are tensor-parallel unless something else is said, which reads weights fastest and talks
most. Replicas inside the replica (data parallelism) and stages (pipeline parallelism) talk less and read more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log2

from haqa_contract import Scalar
from haqa_operator.hardware.catalogue import find
from haqa_operator.hardware.interconnects import has_fast_links
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.settings import DefaultSetting, Value, Values, has_experts
from haqa_operator.search.engine_defaults.shared import RECIPES
from haqa_operator.search.roofline import roofline_of
from haqa_operator.search.throughput import output_tokens_per_s

_PER_HALVING = {True: 1.1, False: 1.25}
"""What each halving of tensor parallelism saves, with fast links and over PCIe: two all-reduces a layer."""

_BUBBLES = 0.95
"""Share that stages leave of each other's time."""

_EXPERTS_WHOLE = 1.05
"""Whole experts on each accelerator are larger products than slices of all of them."""


def _fast_links(case: Case) -> bool:
    product = find(case.accelerator.product, case.accelerator.memory_gib)
    return product is not None and has_fast_links(product)


def _split(parts: int, share: float = 1.0) -> Callable[[Case], float]:
    """Expected factor of weights that are read by parts of the replica instead of by all of it together."""

    def factor(case: Case) -> float:
        saved = share * _PER_HALVING[_fast_links(case)] ** log2(parts)
        roofline = roofline_of(case)
        if roofline is None:
            return float(0.9 * saved)
        part = replace(roofline, bandwidth=roofline.bandwidth / parts, flops=roofline.flops / parts)
        ratio = 1.0
        for level in case.workload.concurrency:
            busy = min(parts, level)
            ratio *= busy * output_tokens_per_s(part, case, level / busy) / output_tokens_per_s(roofline, case, level)
        return float(saved * ratio ** (1 / len(case.workload.concurrency)))

    return factor


def _value(case: Case, experts: bool, **sizes: int) -> Value:
    settings: dict[str, Scalar] = {f"{name}-parallel-size": size for name, size in sizes.items() if size > 1}
    factor = _split(sizes.get("data", 1) * sizes.get("pipeline", 1), _BUBBLES if sizes.get("pipeline", 1) > 1 else 1.0)
    if not experts:
        return Value(settings, factor)
    return Value(
        settings | {"enable-expert-parallel": True},
        lambda case: _EXPERTS_WHOLE * factor(case),
        recipe=not settings,
    )


def _values(case: Case) -> Values:
    """Powers of two: data parallelism, pipeline parallelism, each with and without whole experts."""
    count, found = case.accelerator.count, []
    parts = [size for size in (2, 4, 8) if size <= count and count % size == 0]
    kinds = (False, True) if has_experts(case) else (False,)
    for experts in kinds:
        if experts:
            found.append(_value(case, experts))
        found += [_value(case, experts, data=size) for size in parts]
        found += [_value(case, experts, pipeline=size) for size in parts]
    return tuple(found)


PARALLELISM = DefaultSetting(
    "parallelism",
    _values,
    "splitting a replica's accelerators otherwise than by tensor parallelism alone: replicas and stages talk less, "
    "whole experts compute in larger products",
    f"{RECIPES}: tensor and expert parallelism on one node; vllm/config/parallel.py",
    when=lambda case: case.accelerator.count > 1,
    applies="more than one accelerator in a replica; `enable-expert-parallel` for mixtures of experts",
    shown="`data-parallel-size` and `pipeline-parallel-size` 2, 4, 8, with and without `enable-expert-parallel`",
    crossed=True,
    since=(0, 9, 0),
    related=frozenset({"tensor-parallel-size", "prefill-context-parallel-size"}),
)
