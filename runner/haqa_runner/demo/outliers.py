"""Gives a small model the outlier channels that large trained language models have.

What makes low precision cost accuracy in practice is a few input channels that stand out: of activations (LLM.int8(),
Dettmers et al. 2022, arXiv 2208.07339), which an 8-bit activation scale has to span, and of weights (AWQ, Lin et al.
2023, arXiv 2306.00978), which set the step of their whole group. A model that was trained for two minutes has none, and
rounding it to 4 bits would seem free. Each RMSNorm's gain is multiplied by a factor on some channels, and the weights
that read those channels are divided by it: the model computes the same function, and is as hard to quantize as a large
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Outliers:
    """Channels that stand out.

    Attributes:
        share: Of each layer's input channels.
        gain: Above 1: their activations are so many times larger; below 1: the weights that read them are 1/gain times
            larger.
    """

    share: float
    gain: float


def add_outliers(model: LlamaForCausalLM, outliers: Outliers, generator: torch.Generator) -> None:
    """Changes the model in place; what it computes stays the same but for rounding."""
    with torch.no_grad():
        for norm, readers in _norms(model):
            width = norm.numel()
            gains = torch.ones(width)
            gains[torch.randperm(width, generator=generator)[: max(1, round(outliers.share * width))]] = outliers.gain
            norm.mul_(gains)
            for reader in readers:
                reader.weight.div_(gains)


def _norms(model: LlamaForCausalLM) -> Iterator[tuple[nn.Parameter, tuple[nn.Linear, ...]]]:
    """Every norm's gain, with the linear layers that read its output."""
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield layer.input_layernorm.weight, (attention.q_proj, attention.k_proj, attention.v_proj)
        yield layer.post_attention_layernorm.weight, (mlp.gate_proj, mlp.up_proj)
