"""The longest sequence that a model can take, as vLLM derives it from config.json.

vllm/config/model.py (`_get_and_verify_max_len`) and transformers_utils/model_arch_config_convertor.py, 0.32. It refuses
a `--max-model-len` above that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_OVERRIDE = "model_max_length"
"""Goes before all others where it is given (Command-R)."""

_ALREADY_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of RoPE scaling whose factor is in the limit already."""


def context_length(text: Mapping[str, Any]) -> int | None:
    """Tokens of the longest sequence; None where the config names no limit.

    Args:
        text: The config, the text model's fields on its top level.
    """
    limits = [text[key] for key in _KEYS if _is_length(text.get(key))]
    if _is_length(text.get(_OVERRIDE)):
        limits = [text[_OVERRIDE]]
    if not limits:
        return None
    scalings = list(_rope_scalings(text))
    if any(_kind(scaling) == "longrope" for scaling in scalings):
        return int(text.get("original_max_position_embeddings") or min(limits))
    factor = 1.0
    if "gemma3" not in str(text.get("model_type")):
        for scaling in scalings:
            if _kind(scaling) not in _ALREADY_SCALED:
                factor = scaling.get("factor") or factor
    return int(min(limits) * factor)


def _rope_scalings(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """One for the whole model, or one for each kind of layer."""
    found = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(found, Mapping):
        return
    nested = [value for value in found.values() if isinstance(value, Mapping)]
    yield from nested or [found]


def _kind(scaling: Mapping[str, Any]) -> str:
    return str(scaling.get("rope_type") or scaling.get("type") or "default")


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value > 0
