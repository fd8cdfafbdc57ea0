"""Which layers take what another one gives: found by running a model that has no weights.

Smoothing divides what a norm gives and multiplies the matrices that take it. Where another matrix takes it too (the
router of a mixture), or those that are multiplied take something else (a norm behind attention and not before the MLP),
the model computes something else afterwards. llm-compressor's mappings are names, and do not notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from llmcompressor.modeling.moe.linear_experts import LinearExperts2D
from torch import Tensor
from torch.nn import Linear, Module

_TOKENS = 8


@dataclass(frozen=True)
class Smoothing:
    """A layer whose outputs are divided, and the layers whose columns are multiplied for it."""

    smoothed: Module
    adapted: Sequence[Module]


def what_smoothing_changes(model: Any, smoothings: Sequence[Smoothing]) -> str | None:
    """A clause that says which layer would compute something else; None where none is found.

    Layers that text does not pass through are not looked at, nor are Linear layers that are smoothed: what they give is
    multiplied and added before others take it.

    Args:
        model: On the meta device, its experts unjoined.
    """
    smoothings = [one for one in smoothings if not isinstance(one.smoothed, Linear)]
    taken, ran = _takers(model, {one.smoothed for one in smoothings})
    names = {module: name for name, module in model.named_modules()}
    for one in smoothings:
        if one.smoothed not in ran:
            continue
        takers, adapted = taken.get(one.smoothed, set()), set(one.adapted)
        if beside := takers - adapted:
            return f"{_first(beside, names)} takes what {names[one.smoothed]} gives, and would not be adapted to it"
        if wrong := (adapted & ran) - takers:
            return f"{_first(wrong, names)} would be adapted to what {names[one.smoothed]} gives, and does not take it"
    return None


def _first(modules: Iterable[Module], names: Mapping[Module, str]) -> str:
    return min(names[module] for module in modules)


def _takers(model: Any, sources: set[Module]) -> tuple[dict[Module, set[Module]], set[Module]]:
    """The modules with matrices that take what each source gives, and all those of either kind that ran."""
    given: dict[int, Module] = {}
    kept: list[Tensor] = []
    taken: dict[Module, set[Module]] = {}
    ran: set[Module] = set()

    def gave(module: Module, _: Any, output: Tensor) -> None:
        ran.add(module)
        kept.append(output)
        given[_storage(output)] = module

    def takes(module: Module, arguments: Any, named: Any) -> None:
        ran.add(module)
        for tensor in _tensors((arguments, named)):
            if (source := given.get(_storage(tensor))) is not None:
                taken.setdefault(source, set()).add(module)

    with ExitStack() as stack:
        for module in model.modules():
            if module in sources:
                stack.callback(module.register_forward_hook(gave).remove)
            elif any(parameter is not None and parameter.ndim > 1 for parameter in module._parameters.values()):
                stack.callback(module.register_forward_pre_hook(takes, with_kwargs=True).remove)
            if isinstance(module, LinearExperts2D):
                stack.enter_context(patch.object(module, "forward", partial(_through_all, module)))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.device("meta"))
        # A mask that is ready to use: making one looks at numbers.
        tokens, mask = torch.zeros((1, _TOKENS), dtype=torch.long), torch.zeros((1, 1, _TOKENS, _TOKENS))
        model(input_ids=tokens, attention_mask=mask, use_cache=False)
    return taken, ran


def _through_all(experts: Any, hidden_states: Tensor, *_: Any) -> Tensor:
    """Instead of asking which tokens go where, which takes numbers."""
    for index in range(experts.num_experts):
        experts[index](hidden_states)
    return torch.empty_like(hidden_states)


def _storage(tensor: Tensor) -> int:
    """The same for a tensor and its views."""
    found: int = tensor.untyped_storage()._cdata
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    match value:
        case Tensor():
            yield value
        case tuple() | list():
            for inside in value:
                yield from _tensors(inside)
        case dict():
            yield from _tensors(list(value.values()))
