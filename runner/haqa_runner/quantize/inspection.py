"""What the control plane needs to know of a model before the first trial, small enough for a termination message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

_READ: Final = """
architectures model_type dtype torch_dtype tie_word_embeddings vocab_size
hidden_size n_embd d_model num_hidden_layers n_layer n_layers
max_position_embeddings n_positions max_seq_len seq_length max_target_positions max_sequence_length max_seq_length
seq_len model_max_length original_max_position_embeddings
num_attention_heads n_head n_heads num_key_value_heads num_kv_heads head_dim
kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim
sliding_window use_sliding_window sliding_window_pattern layer_types
intermediate_size ffn_dim n_inner moe_intermediate_size shared_expert_intermediate_size
num_local_experts num_experts n_routed_experts n_shared_experts num_experts_per_tok top_k_experts
first_k_dense_replace decoder_sparse_step mlp_only_layers
mamba_d_state state_size ssm_cfg linear_num_value_heads block_types
"""
"""What the search reads of a config (`haqa_operator.search.model_profile`); a test holds the two together."""

_KEYS = frozenset(_READ.split())
_SCALARS = (str, int, float, bool)


def compact_config(config: Mapping[str, Any]) -> str:
    """The part of a `config.json` that the search space is built from, as JSON on one line."""
    return json.dumps(_reduced(config), separators=(",", ":"))


def _reduced(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: _value(value) for name, value in config.items() if name in _KEYS and value is not None}
    if isinstance(text := config.get("text_config"), Mapping):
        kept["text_config"] = _reduced(text)
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(scaling := config.get(name), Mapping):
            kept[name] = _scaling(scaling)
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
        kept["quantization_config"] = {"quant_method": str(method or "unknown method")}
    return kept


def _scaling(scaling: Mapping[str, Any]) -> dict[str, Any]:
    """Kind and factor, of the whole model or of each kind of layer; the lists of longrope's factors are left out."""
    read = {name: scaling[name] for name in ("rope_type", "type", "factor") if name in scaling}
    return read | {name: _scaling(part) for name, part in scaling.items() if isinstance(part, Mapping)}


def _value(value: Any) -> Any:
    """Scalars and lists of scalars; of anything else the search asks only whether it is there."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, list) and all(isinstance(item, _SCALARS) for item in value):
        return value
    return True
