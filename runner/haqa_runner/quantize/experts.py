"""Experts of a mixture under the names that their checkpoint has for them.

transformers joins a checkpoint's experts into one tensor when it loads them, under names of its own, and takes it apart
again when it saves. In between, llm-compressor makes a Linear layer of each expert, and what is saved then is
`gate_proj`, `up_proj` and `down_proj`, which an engine does not look for where the checkpoint says `w1`, `w3` and `w2`
(Mixtral, MiniMax-M2).

Before anything is loaded, the same Linear layers tell what a recipe finds in a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from compressed_tensors.offload.cache import DeviceCache, OffloadCache
from llmcompressor.modeling.moe.linearize import linearize_moe
from transformers.core_model_loading import WeightConverter, WeightRenaming

_OURS = {"gate_up_proj": ("gate_proj", "up_proj"), "up_proj": ("up_proj",), "down_proj": ("down_proj",)}
"""What llm-compressor's `LinearExperts2D` calls the parts of a joined tensor."""
_THEIRS = re.compile(r"experts\.\*\.(?P<name>\w+)\.weight$")

_COUNTS = ("num_local_experts", "moe_num_experts", "num_experts", "n_routed_experts")
"""Where a config says how many experts there are, as llm-compressor looks for it (`MoEConfig.from_config`)."""
_FEW = 2
"""Experts that stand for hundreds alike, whose layers take half a minute to build: two, so that they have siblings."""


def unjoin_without_weights(model: Any) -> None:
    """Makes Linear layers of a few experts of each mixture, as llm-compressor does when it has loaded the model.

    Args:
        model: On the meta device.
    """
    # It puts the layers where the experts were, and knows no such place as nowhere.
    placed = patch.object(OffloadCache, "cls_from_device", return_value=DeviceCache)
    with _few_experts(model), torch.device("meta"), placed:
        linearize_moe(model)


@contextmanager
def _few_experts(model: Any) -> Iterator[None]:
    """Inside, configs and modules say that there are so few."""
    owners = {id(one): one for module in model.modules() for one in (module, getattr(module, "config", None))}
    before = []
    for owner in owners.values():
        for name in _COUNTS:
            if isinstance(count := getattr(owner, name, None), int):
                before.append((owner, name, count))
                setattr(owner, name, min(count, _FEW))
    try:
        yield
    finally:
        # Backwards, since one may be another name of the other.
        for owner, name, count in reversed(before):
            setattr(owner, name, count)


def keep_expert_names(model: Any) -> None:
    """Has `model.save_pretrained` give experts their checkpoint's names back."""
    conversions = getattr(model, "_weight_conversions", None)
    if conversions:
        model._weight_conversions = [kept for one in conversions for kept in (_renamings(one) or [one])]


def _renamings(conversion: Any) -> list[WeightRenaming]:
    """Instead of joining tensors, renames each; empty where names are the same or nothing is joined."""
    if not isinstance(conversion, WeightConverter):
        return []
    ours = _OURS.get(str(conversion.target_patterns[0]).rpartition(".")[2], ())
    theirs = [match["name"] for source in conversion.source_patterns if (match := _THEIRS.search(source))]
    if len(theirs) != len(ours) or tuple(theirs) == ours:
        return []
    return [
        WeightRenaming(rf"\.experts\.(\d+)\.{their}\.", rf".experts.\1.{our}.")
        for their, our in zip(theirs, ours, strict=True)
    ]
