"""What a model's `config.json` says of its weights and its KV cache, read without loading it.

Enough to know before a trial whether a configuration fits: shapes of the Linear layers (group sizes have to divide
their columns), bytes of the weights in each scheme, bytes of KV cache a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from haqa_contract import Configuration, Scheme
from haqa_operator.search.context_length import context_length
from haqa_operator.search.layers import Attention, LinearShape, attention_layers, mlp_layers
from haqa_operator.search.number_formats import FORMATS, cache_bytes


class ModelProfileError(ValueError):
    """The checkpoint cannot be tuned, or its config cannot be read; the sentence says what to give instead."""


_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True)
class ModelProfile:
    """A model as far as memory and kernels are concerned.

    Attributes:
        linears: Shapes of all quantizable Linear layers; empty where the architecture is not known, and then nothing
            is concluded from shapes.
        other_parameters: Embeddings, output layer, norms: kept in 16 bit by every scheme.
        attention: What the KV cache holds; None where the architecture is not known.
        dtype: The checkpoint's type.
        predicted_tokens: Tokens beside the next one that layers of the checkpoint predict; 0 where it has none.
    """

    architecture: str
    layers: int
    hidden_size: int
    vocab_size: int
    max_positions: int | None
    dtype: str
    linears: tuple[LinearShape, ...]
    other_parameters: int
    attention: Attention | None
    experts: int = 0
    experts_per_token: int = 0
    predicted_tokens: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any], weight_bytes: int | None = None) -> ModelProfile:
        """The profile of a Hugging Face `config.json`.

        Args:
            config: The parsed file.
            weight_bytes: Size of the checkpoint's tensors, which sharpens the parameter count and is needed for
                architectures that are not known here.

        Raises:
            ModelProfileError: already quantized, a field is missing, or an unknown architecture without `weight_bytes`.
        """
        return _profile(config, weight_bytes)

    @property
    def parameters(self) -> int:
        return self.other_parameters + sum(linear.parameters for linear in self.linears)

    @property
    def active_matrix_parameters(self) -> int:
        """Parameters of Linear layers that one token is multiplied with; output layer and routers not counted."""
        share = self.experts_per_token / self.experts if self.experts else 1.0
        return int(sum(linear.parameters * (share if linear.routed else 1) for linear in self.linears))

    def weight_bytes(
        self, scheme: Scheme, group_size: int | None = None, compute_bytes: int = 2, active: bool = False
    ) -> float:
        """Memory of the weights under a scheme, in bytes.

        Args:
            group_size: None for the scheme's own.
            compute_bytes: Bytes of an unquantized number; 4 where the engine runs in float32.
            active: Only what one token reads (mixtures of experts).
        """
        key = (scheme, group_size, compute_bytes, active)
        if key not in self._known_weights:
            self._known_weights[key] = self._weight_bytes(*key)
        return self._known_weights[key]

    @cached_property
    def _known_weights(self) -> dict[tuple[Scheme, int | None, int, bool], float]:
        """Of thousands of candidates, a few dozen differ in their weights."""
        return {}

    def _weight_bytes(self, scheme: Scheme, group_size: int | None, compute_bytes: int, active: bool) -> float:
        number_format = FORMATS[scheme]
        share = self.experts_per_token / self.experts if active and self.experts else 1.0
        total = float(self.other_parameters * compute_bytes)
        for linear in self.linears:
            if number_format.quantized:
                one = number_format.matrix_bytes(linear.rows, linear.columns, group_size)
            else:
                one = linear.rows * linear.columns * compute_bytes
            total += one * linear.count * (share if linear.routed else 1)
        return total

    def configured_weight_bytes(self, configuration: Configuration, active: bool = False) -> float:
        """The same for a configuration, its `dtype` setting included."""
        compute = self.compute_bytes(configuration)
        return self.weight_bytes(configuration.scheme, configuration.group_size, compute, active)

    def compute_bytes(self, configuration: Configuration) -> int:
        """Bytes of an unquantized number in the engine, which serves float32 checkpoints in 16 bit unless told."""
        return _BYTES.get(str(dict(configuration.engine).get("dtype", "auto")), 2)

    def kv_bytes_per_token(self, kv_cache_dtype: str = "auto", compute_bytes: int = 2) -> float:
        """KV cache of one token, all layers together, in bytes; 0 where the architecture is not known."""
        if self.attention is None:
            return 0.0
        return self.attention.cached_numbers * cache_bytes(kv_cache_dtype, compute_bytes)

    def kv_bytes(self, tokens: int, kv_cache_dtype: str = "auto", compute_bytes: int = 2) -> float:
        """KV cache of one sequence of this length; layers with a sliding window hold no more than the window."""
        if self.attention is None:
            return 0.0
        return self.attention.cached_by(tokens) * cache_bytes(kv_cache_dtype, compute_bytes)


def _profile(config: Mapping[str, Any], weight_bytes: int | None) -> ModelProfile:
    text = {**config, **config.get("text_config", {})}
    architecture = (config.get("architectures") or text.get("architectures") or [str(text.get("model_type"))])[0]
    _refuse_quantized(config, text)
    dtype = str(text.get("dtype") or text.get("torch_dtype") or "float32").removeprefix("torch.")
    reader = _Reader(text)
    hidden, layers, vocab = (
        reader.number("hidden_size"),
        reader.number("num_hidden_layers"),
        reader.number("vocab_size"),
    )
    linears: tuple[LinearShape, ...] = ()
    attention: Attention | None = None
    if _known(text):
        attention, projections = attention_layers(text, reader.number("num_attention_heads"), hidden, layers)
        linears = (*projections, *mlp_layers(architecture, text, hidden, layers))
    elif weight_bytes is None:
        raise ModelProfileError(
            f"architecture {architecture}: its layers are not known here, so the size of its weights is needed; "
            "give the folder with the checkpoint's files"
        )
    experts = _first(text, "num_local_experts", "num_experts", "n_routed_experts") or 0
    return ModelProfile(
        architecture=architecture,
        layers=layers,
        hidden_size=hidden,
        vocab_size=vocab,
        max_positions=context_length(text),
        dtype=dtype,
        linears=linears,
        other_parameters=_others(architecture, text, hidden, layers, vocab, linears, weight_bytes, dtype),
        attention=attention,
        experts=experts,
        experts_per_token=_first(text, "num_experts_per_tok", "top_k_experts") or 0 if experts else 0,
        predicted_tokens=_first(text, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules") or 0,
    )


def _refuse_quantized(config: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    quantization = config.get("quantization_config") or text.get("quantization_config")
    if quantization:
        method = (
            quantization.get("quant_method", "unknown method") if isinstance(quantization, Mapping) else quantization
        )
        raise ModelProfileError(
            f"spec.model: the checkpoint is already quantized (quant_method {method or 'unknown'} in config.json), and "
            "quantizing it again would measure the loss of both; give the unquantized model"
        )


def _known(text: Mapping[str, Any]) -> bool:
    """Attention in every layer and Linear projections; state-space and linear-attention layers are not."""
    kinds = set(text.get("layer_types") or ())
    return kinds <= {"full_attention", "sliding_attention", "chunked_attention"} and not any(
        name in text for name in ("mamba_d_state", "state_size", "ssm_cfg", "linear_num_value_heads", "block_types")
    )


def _others(
    architecture: str,
    text: Mapping[str, Any],
    hidden: int,
    layers: int,
    vocab: int,
    linears: tuple[LinearShape, ...],
    weight_bytes: int | None,
    dtype: str,
) -> int:
    """Parameters outside the Linear layers: from the checkpoint's size if given, else embeddings and norms."""
    if weight_bytes is not None:
        total = weight_bytes // _BYTES.get(dtype, 2)
        return max(0, total - sum(linear.parameters for linear in linears))
    # Configs leave a field out where it has its class's default, and only Gemma's classes tie by default.
    tied = text.get("tie_word_embeddings", architecture.startswith("Gemma"))
    routers = layers * hidden * (_first(text, "num_local_experts", "num_experts", "n_routed_experts") or 0)
    return hidden * vocab * (1 if tied else 2) + hidden * (2 * layers + 1) + routers


class _Reader:
    """Numbers of a config, under the names that different architectures give them."""

    _ALIASES = {
        "hidden_size": ("hidden_size", "n_embd", "d_model"),
        "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers"),
        "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
        "vocab_size": ("vocab_size",),
    }

    def __init__(self, text: Mapping[str, Any]) -> None:
        self.text = text

    def number(self, name: str) -> int:
        value = _first(self.text, *self._ALIASES[name])
        if not value or value < 0:
            raise ModelProfileError(
                f"config.json: {name} is {value!r}; a text model's config has a positive number there"
            )
        return value


def _first(text: Mapping[str, Any], *names: str) -> int | None:
    value = next((text[name] for name in names if text.get(name) is not None), None)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
