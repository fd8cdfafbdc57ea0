"""What a model keeps of a sequence while it answers: keys and values for each token, states whatever the length."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from haqa_contract.model_facts import KvCache, Role
from haqa_runner.models.architecture.roles import Sorted

_FUSED = frozenset(["qkv_proj", "qkv", "query_key_value", "c_attn", "Wqkv", "W_pack", "wqkv"])
_OUTPUTS = frozenset(["o_proj", "out_proj", "dense", "c_proj", "wo"])
_COMPRESSED = frozenset(["kv_a_proj_with_mqa", "kv_a_proj"])
_STATES = (
    ("num_v_heads", "head_k_dim", "head_v_dim"),
    ("num_heads", "head_dim", "ssm_state_size"),
    ("num_heads", "head_dim", "state_size"),
    ("intermediate_size", "ssm_state_size"),
    ("num_attention_heads", "head_dim", "head_dim"),
)
"""Attributes of linear attention, Mamba-2, Mamba and lightning attention whose product is the size of the state."""


@dataclass(frozen=True)
class Kept:
    """What all layers together keep.

    Attributes:
        cache: None where some layer's is not understood.
        latent: Attention over one compressed vector a token.
        state_numbers: For a sequence, whatever its length.
    """

    cache: tuple[KvCache, ...] | None
    latent: bool
    state_numbers: int


def kept_by(weights: Iterable[Sorted], config: Mapping[str, Any], blocks: Mapping[str, Any] | None = None) -> Kept:
    """What a model keeps, by its projections.

    Args:
        weights: All of its weights.
        config: Of the text model, the class's defaults filled in where there is a class.
        blocks: Modules that keep a state, by path of layer and block; None where there are only names.
    """
    attention: dict[tuple[int, str], dict[str, tuple[int, int]]] = {}
    states: dict[tuple[int, str], int] = {}
    for one in weights:
        layer, block = one.place.layer, one.place.block
        if layer is None or one.role is Role.PREDICTION:
            continue
        if one.role is Role.ATTENTION or "indexer" in one.place.name:
            for name, rows, columns, _ in one.matrices:
                attention.setdefault((layer, block), {})[name.partition(".")[2] or name] = (rows, columns)
        elif one.role is Role.LINEAR_ATTENTION:
            convolution = one.place.leaf in ("conv1d", "conv") and len(one.weight.shape) == 3
            states[layer, block] = states.get((layer, block), 0) + (_window_of(one.weight.shape) if convolution else 0)
    found: Counter[tuple[int, int | None, int]] = Counter()
    understood: dict[int, bool] = {}
    for (layer, _), shapes in attention.items():
        entries = _entries(shapes, layer, config)
        understood[layer] = understood.get(layer, False) or entries is not None
        found.update(entries or ())
    latent = any(not _COMPRESSED.isdisjoint(shapes) for shapes in attention.values())
    for layer_block in states:
        states[layer_block] += _state((blocks or {}).get(".".join(map(str, layer_block))))
    if not attention and not states:
        return Kept(None, False, 0)
    cache = tuple(
        KvCache(layers=layers, numbers=numbers, window=window, tokens_per_entry=tokens)
        for (numbers, window, tokens), layers in found.items()
    )
    return Kept(cache if all(understood.values()) else None, latent, sum(states.values()))


def _entries(
    shapes: Mapping[str, tuple[int, int]], layer: int, config: Mapping[str, Any]
) -> list[tuple[int, int | None, int]] | None:
    """What one layer of attention caches: numbers, window, tokens that share an entry; None if not understood."""
    numbers = _numbers(shapes)
    if numbers is None:
        return None
    kind = _kind(layer, config)
    window = _window(kind, config)
    found = [(numbers, window, 1)] if numbers else []
    rate = (config.get("compress_rates") or {}).get(kind)
    if rate:
        found.append((numbers, None, int(rate)))
    found += [(rows, None, int(rate or 1)) for name, (rows, _) in shapes.items() if name in ("indexer.wk",)]
    return found


def _numbers(shapes: Mapping[str, tuple[int, int]]) -> int | None:
    """Keys and values of one token; 0 for a layer that reads another one's."""
    for name in _COMPRESSED:
        if name in shapes:
            return shapes[name][0]
    if key := next((shapes[name][0] for name in ("k_proj", "wk", "key", "k_lin") if name in shapes), 0):
        # Where there is no projection of values, keys are read as values, and stored as both.
        return key + next((shapes[name][0] for name in ("v_proj", "wv", "value", "v_lin") if name in shapes), key)
    if "kv_proj" in shapes:
        return shapes["kv_proj"][0]
    fused = next((shapes[name] for name in _FUSED if name in shapes), None)
    if fused is None:
        return 0 if any(name in shapes for name in ("q_proj", "wq", "query")) else None
    output = next((shapes[name] for name in _OUTPUTS if name in shapes), None)
    return fused[0] - output[1] if output is not None and fused[0] > output[1] else None


def _kind(layer: int, config: Mapping[str, Any]) -> str | None:
    kinds = config.get("layer_types")
    return str(kinds[layer]) if isinstance(kinds, (list, tuple)) and layer < len(kinds) else None


def _window(kind: str | None, config: Mapping[str, Any]) -> int | None:
    """Tokens that a layer of this kind sees at most."""
    if kind is not None and "full" in kind:
        return None
    size = config.get("attention_chunk_size") if kind is not None and "chunk" in kind else config.get("sliding_window")
    sliding = config.get("use_sliding_window") is not False
    known = isinstance(size, int) and not isinstance(size, bool) and size > 0 and sliding
    return int(size) if known and size is not None else None


def _window_of(shape: tuple[int, ...]) -> int:
    """What a convolution over tokens keeps of the last ones: all of its window but the newest."""
    return shape[0] * (shape[2] - 1)


def _state(module: Any) -> int:
    for names in _STATES:
        sizes = [getattr(module, name, None) for name in names]
        if all(isinstance(size, int) and size > 0 for size in sizes):
            return math.prod(size or 0 for size in sizes)
    return 0
