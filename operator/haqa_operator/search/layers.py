"""Shapes of the Linear layers and of the KV cache of transformer decoders, by their `config.json`.

Covers decoders built like Llama (Mistral, Qwen2, Qwen3, Gemma, Granite, OLMo …), with fused projections (Phi-3), with a
plain MLP (Phi, GPT-NeoX, OPT, StarCoder2, Nemotron), mixtures of experts (Mixtral, Qwen-MoE, DeepSeek) and latent
attention (DeepSeek-V2 and later).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Split(StrEnum):
    """How tensor parallelism cuts a matrix: by its rows (outputs), by its columns (inputs), or not at all."""

    ROWS = "rows"
    COLUMNS = "columns"
    NONE = "none"


@dataclass(frozen=True)
class LinearShape:
    """All Linear layers of one name.

    Attributes:
        name: `q_proj`, `down_proj`, `experts.down_proj`.
        rows: Outputs.
        columns: Inputs, which groups of weights divide.
        count: How many the model has.
        routed: Belongs to an expert that only some tokens pass through.
    """

    name: str
    rows: int
    columns: int
    count: int
    split: Split = Split.NONE
    routed: bool = False

    @property
    def parameters(self) -> int:
        return self.rows * self.columns * self.count


@dataclass(frozen=True)
class Attention:
    """What the attention layers keep for each token.

    Attributes:
        heads: Query heads, which tensor parallelism divides.
        kv_heads: Key and value heads; 1 for latent attention, whose cache is one vector.
        numbers_per_layer: Numbers that one layer caches for a token.
        full_layers, sliding_layers: Layers that keep all tokens; layers that keep the last `window` of them.
    """

    heads: int
    kv_heads: int
    head_dim: int
    numbers_per_layer: int
    full_layers: int
    sliding_layers: int = 0
    window: int | None = None

    @property
    def cached_numbers(self) -> int:
        return self.numbers_per_layer * (self.full_layers + self.sliding_layers)

    def cached_by(self, tokens: int) -> int:
        """Numbers that one sequence of this many tokens keeps."""
        in_window = min(tokens, self.window) if self.window else tokens
        return self.numbers_per_layer * (self.full_layers * tokens + self.sliding_layers * in_window)


def attention_layers(
    config: Mapping[str, Any], heads: int, hidden: int, layers: int
) -> tuple[Attention, tuple[LinearShape, ...]]:
    """The attention of a config and its projections."""
    sliding, window = _sliding(config, layers)
    if config.get("kv_lora_rank"):
        return _latent(config, heads, hidden, layers)
    kv_heads = config.get("num_key_value_heads") or config.get("num_kv_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    attention = Attention(heads, kv_heads, head_dim, 2 * kv_heads * head_dim, layers - sliding, sliding, window)
    queries, keys = heads * head_dim, kv_heads * head_dim
    output = LinearShape("o_proj", hidden, queries, layers, Split.COLUMNS)
    if _is_fused(config):
        return attention, (LinearShape("qkv_proj", queries + 2 * keys, hidden, layers, Split.ROWS), output)
    return attention, (
        LinearShape("q_proj", queries, hidden, layers, Split.ROWS),
        LinearShape("k_proj", keys, hidden, layers, Split.ROWS),
        LinearShape("v_proj", keys, hidden, layers, Split.ROWS),
        output,
    )


def _latent(
    config: Mapping[str, Any], heads: int, hidden: int, layers: int
) -> tuple[Attention, tuple[LinearShape, ...]]:
    """DeepSeek's multi-head latent attention: one compressed vector a token instead of keys and values."""
    rank, rope = config["kv_lora_rank"], config.get("qk_rope_head_dim", 64)
    nope, value = config.get("qk_nope_head_dim", 128), config.get("v_head_dim", 128)
    attention = Attention(heads, 1, nope + rope, rank + rope, layers)
    queries = heads * (nope + rope)
    query = [LinearShape("q_proj", queries, hidden, layers, Split.ROWS)]
    if q_rank := config.get("q_lora_rank"):
        query = [
            LinearShape("q_a_proj", q_rank, hidden, layers),
            LinearShape("q_b_proj", queries, q_rank, layers, Split.ROWS),
        ]
    return attention, (
        *query,
        LinearShape("kv_a_proj_with_mqa", rank + rope, hidden, layers),
        LinearShape("kv_b_proj", heads * (nope + value), rank, layers, Split.ROWS),
        LinearShape("o_proj", hidden, heads * value, layers, Split.COLUMNS),
    )


def _sliding(config: Mapping[str, Any], layers: int) -> tuple[int, int | None]:
    """Layers with a sliding window, and the window in tokens."""
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return 0, None
    if kinds := config.get("layer_types"):
        return sum(kind == "sliding_attention" for kind in kinds[:layers]), window
    if pattern := config.get("sliding_window_pattern"):
        return layers - layers // pattern, window
    if config.get("model_type") == "gemma2":
        return layers - layers // 2, window
    return layers, window


_FUSED = frozenset({"phi3", "phi4"})
"""Model types with one matrix for queries, keys and values, and one for gate and up."""

_PLAIN_MLP = {
    "PhiForCausalLM": ("fc1", "fc2"),
    "OPTForCausalLM": ("fc1", "fc2"),
    "GPTNeoXForCausalLM": ("dense_h_to_4h", "dense_4h_to_h"),
    "FalconForCausalLM": ("dense_h_to_4h", "dense_4h_to_h"),
    "Starcoder2ForCausalLM": ("c_fc", "c_proj"),
    "GPTBigCodeForCausalLM": ("c_fc", "c_proj"),
    "NemotronForCausalLM": ("up_proj", "down_proj"),
}
"""Architectures without a gate: one matrix up, one down."""


def _is_fused(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in _FUSED


def mlp_layers(architecture: str, config: Mapping[str, Any], hidden: int, layers: int) -> tuple[LinearShape, ...]:
    """The feed-forward matrices of all layers, experts among them."""
    inner = config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * hidden
    if architecture in _PLAIN_MLP:
        up, down = _PLAIN_MLP[architecture]
        return (
            LinearShape(up, inner, hidden, layers, Split.ROWS),
            LinearShape(down, hidden, inner, layers, Split.COLUMNS),
        )
    if _is_fused(config):
        return (
            LinearShape("gate_up_proj", 2 * inner, hidden, layers, Split.ROWS),
            LinearShape("down_proj", hidden, inner, layers, Split.COLUMNS),
        )
    sparse = _sparse_layers(config, layers)
    shapes: tuple[LinearShape, ...] = ()
    if layers > sparse:
        shapes += _gated("", inner, hidden, layers - sparse)
    if sparse:
        shapes += _experts(config, inner, hidden, sparse)
    return shapes


def _gated(prefix: str, inner: int, hidden: int, count: int, routed: bool = False) -> tuple[LinearShape, ...]:
    return (
        LinearShape(f"{prefix}gate_proj", inner, hidden, count, Split.ROWS, routed),
        LinearShape(f"{prefix}up_proj", inner, hidden, count, Split.ROWS, routed),
        LinearShape(f"{prefix}down_proj", hidden, inner, count, Split.COLUMNS, routed),
    )


def _experts(config: Mapping[str, Any], inner: int, hidden: int, layers: int) -> tuple[LinearShape, ...]:
    expert_inner = config.get("moe_intermediate_size") or inner
    shared = config.get("shared_expert_intermediate_size") or expert_inner * (config.get("n_shared_experts") or 0)
    shapes = _gated("experts.", expert_inner, hidden, layers * _experts_of(config), routed=True)
    return shapes + (_gated("shared_expert.", shared, hidden, layers) if shared else ())


def _experts_of(config: Mapping[str, Any]) -> int:
    return int(config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts") or 0)


def _sparse_layers(config: Mapping[str, Any], layers: int) -> int:
    """Layers whose feed-forward part is a mixture of experts."""
    if not _experts_of(config):
        return 0
    if first_dense := config.get("first_k_dense_replace"):
        return max(0, layers - int(first_dense))
    step = config.get("decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    return sum((layer + 1) % step == 0 and layer not in dense for layer in range(layers))
