"""Names and shapes of the tensors that a decoder built like Llama has, for tests that have no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from haqa_contract.model_facts import ModelFacts
from haqa_runner.models.architecture.facts import facts_of_headers
from haqa_runner.models.checkpoint import TensorHeader


def facts(config: Mapping[str, Any]) -> ModelFacts:
    """What HAQA makes of a model of this config, found by the names of its tensors."""
    return facts_of_headers(config, headers(config), "tests have no classes").model_copy(update={"notes": ()})


def headers(config: Mapping[str, Any]) -> list[TensorHeader]:
    """One for each tensor; experts one by one, latent attention where the config has `kv_lora_rank`."""
    return [
        TensorHeader(f"{name}.weight", "BF16", shape, 2 * math.prod(shape)) for name, shape in _tensors(dict(config))
    ]


def _tensors(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm", (hidden,)
        yield f"{prefix}.post_attention_layernorm", (hidden,)
        for name, shape in _attention(config):
            yield f"{prefix}.self_attn.{name}", shape
        for name, shape in _mlp(config, layer):
            yield f"{prefix}.mlp.{name}", shape
    yield "model.norm", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head", (vocab, hidden)


def _attention(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    if rank := config.get("kv_lora_rank"):
        rope, nope, value = config["qk_rope_head_dim"], config["qk_nope_head_dim"], config["v_head_dim"]
        yield "q_proj", (heads * (nope + rope), hidden)
        yield "kv_a_proj_with_mqa", (rank + rope, hidden)
        yield "kv_b_proj", (heads * (nope + value), rank)
        yield "o_proj", (hidden, heads * value)
        return
    keys = config.get("num_key_value_heads", heads) * size
    yield "q_proj", (heads * size, hidden)
    yield "k_proj", (keys, hidden)
    yield "v_proj", (keys, hidden)
    yield "o_proj", (hidden, heads * size)


def _mlp(config: dict[str, Any], layer: int) -> Iterator[tuple[str, tuple[int, int]]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    experts = config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts") or 0
    if not experts or layer < config.get("first_k_dense_replace", 0):
        yield from _gated("", inner, hidden)
        return
    yield "gate", (experts, hidden)
    size = config.get("moe_intermediate_size") or inner
    for expert in range(experts):
        yield from _gated(f"experts.{expert}.", size, hidden)
    if shared := config.get("n_shared_experts"):
        yield from _gated("shared_experts.", shared * size, hidden)


def _gated(prefix: str, inner: int, hidden: int) -> Iterator[tuple[str, tuple[int, int]]]:
    yield f"{prefix}gate_proj", (inner, hidden)
    yield f"{prefix}up_proj", (inner, hidden)
    yield f"{prefix}down_proj", (hidden, inner)
