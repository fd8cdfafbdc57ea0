"""Experts of a mixture under the names that their checkpoint has for them.

transformers joins a checkpoint's experts into one tensor when it loads them, under names of its own, and takes it apart
again when it saves. In between, llm-compressor makes a Linear layer of each expert, and what is saved then is
`gate_proj`, `up_proj` and `down_proj`, which an engine does not look for where the checkpoint says `w1`, `w3` and `w2`
(Mixtral, MiniMax-M2).
"""

from __future__ import annotations

import re
from typing import Any

from transformers.core_model_loading import WeightConverter, WeightRenaming

_OURS = {"gate_up_proj": ("gate_proj", "up_proj"), "up_proj": ("up_proj",), "down_proj": ("down_proj",)}
"""What llm-compressor's `LinearExperts2D` calls the parts of a joined tensor."""
_THEIRS = re.compile(r"experts\.\*\.(?P<name>\w+)\.weight$")


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
