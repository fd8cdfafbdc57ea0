"""Makes a trained Llama wider without changing what it computes.

A model wide enough for weight precision to decide its speed takes hours to train on a laptop's CPU; a narrow one takes
minutes. So the demo model is trained narrow and then grown by function-preserving widening (Net2WiderNet, Chen et al.
2016, arXiv 1511.05641): every unit is copied `factor` times and the weights that read the copies are shared equally
between them. Equal shares matter: copies then round alike, and the wide model loses exactly what the narrow one would.
With random shares the rounding errors of the copies differ and cancel, and INT4 seems to cost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM


def widened_config(config: LlamaConfig, factor: int) -> LlamaConfig:
    """The narrow model's configuration with hidden, intermediate size and heads times `factor`."""
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size * factor,
        intermediate_size=config.intermediate_size * factor,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads * factor,
        num_key_value_heads=config.num_key_value_heads * factor,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=config.rope_parameters,
        rms_norm_eps=config.rms_norm_eps,
        tie_word_embeddings=False,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


def grow(model: LlamaForCausalLM, factor: int) -> LlamaForCausalLM:
    """A model `factor` times as wide that computes the same function; float32 in, float32 out."""
    wide = LlamaForCausalLM(widened_config(model.config, factor))
    narrow_modules = dict(model.named_modules())
    with torch.no_grad():
        for name, module in wide.named_modules():
            source = narrow_modules.get(name)
            if isinstance(module, nn.Linear) and isinstance(source, nn.Linear):
                module.weight.copy_(_widened(source.weight, module.weight.shape, factor))
            elif isinstance(module, nn.Embedding) and isinstance(source, nn.Embedding):
                module.weight.copy_(source.weight.repeat(1, factor))
            elif "norm" in name.rsplit(".", 1)[-1] and source is not None:
                # RMSNorm divides by the root mean square, which copying every unit leaves as it was.
                module.weight.copy_(source.weight.repeat(factor))
    return wide


def _widened(weight: Tensor, shape: torch.Size, factor: int) -> Tensor:
    """Rows copied as often as `shape` asks for; each column's weight shared by the copies of the unit it reads."""
    return weight.repeat(shape[0] // weight.shape[0], factor) / factor
