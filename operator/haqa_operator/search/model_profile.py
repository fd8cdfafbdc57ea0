"""How much memory and arithmetic a model takes under each configuration, worked out from what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from haqa_contract import Configuration, Scheme
from haqa_contract.configuration import label_of
from haqa_contract.model_facts import CheckpointFormat, Matrix, ModelFacts, Role, Split
from haqa_operator.search.number_formats import FORMATS, NumberFormat, cache_bytes
from haqa_operator.serving.adapters import EXPERTS, LoraSlots

_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}

_BESIDE_TEXT = frozenset({Role.VISION, Role.AUDIO, Role.PROJECTOR, Role.PREDICTION})
"""Not read while the next token of text is worked out."""


class LookedAt(Protocol):
    """A published checkpoint as the look at it says."""

    @property
    def variant(self) -> str: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def quantization(self) -> CheckpointFormat | None: ...
    @property
    def predicted_tokens(self) -> int: ...


@dataclass(frozen=True)
class Published:
    """A checkpoint that is served as somebody has published it.

    Attributes:
        variant: As `Configuration.variant` names it; None for the model itself.
        weight_bytes: Of all tensors in its files; None where they were not looked at.
        format: None for one that is not quantized.
        predicted_tokens: Beside the next one, by layers in its files.
    """

    variant: str | None
    weight_bytes: int | None
    format: CheckpointFormat | None
    predicted_tokens: int = 0

    @classmethod
    def of(cls, seen: LookedAt) -> Published:
        return cls(seen.variant, seen.weight_bytes, seen.quantization, seen.predicted_tokens)

    @property
    def name(self) -> str:
        """For sentences: `model.variants nvidia`."""
        return f"model.variants {label_of(self.variant)}" if self.variant else "the model"


@dataclass(frozen=True)
class ModelProfile:
    """A model as far as memory and kernels are concerned.

    Attributes:
        variants: Its other checkpoints.
        adapters: Room for the LoRA adapters that are served beside it.
    """

    facts: ModelFacts
    variants: tuple[Published, ...] = ()
    adapters: LoraSlots | None = None

    @property
    def itself(self) -> Published:
        return Published(None, self.facts.weight_bytes, self.facts.quantization, self.facts.predicted_tokens)

    def published(self, configuration: Configuration) -> Published | None:
        """The checkpoint that a configuration serves as it is; None where it makes one."""
        if configuration.made:
            return None
        if configuration.variant is None:
            return self.itself
        return next((one for one in self.variants if one.variant == configuration.variant), None)

    @property
    def is_known(self) -> bool:
        """Whether anything may be concluded from sizes; else the trials find out."""
        return self.facts.source != "nothing" and self.facts.parameters > 0

    @cached_property
    def linears(self) -> tuple[Matrix, ...]:
        """What quantization rounds; empty where that is not known, and then nothing is concluded from shapes."""
        return tuple(matrix for matrix in self.facts.matrices if matrix.rounded)

    @cached_property
    def other_parameters(self) -> int:
        """Embeddings, output layer, norms, towers: kept in 16 bit by every scheme."""
        return max(0, self.facts.parameters - sum(linear.parameters for linear in self.linears))

    @property
    def parameters(self) -> int:
        return self.facts.parameters

    @property
    def has_cache(self) -> bool:
        """Whether it is known what attention keeps of each token."""
        return bool(self.facts.cache) and self.facts.heads > 0

    @property
    def is_all_attention(self) -> bool:
        """Attention in all layers: none keeps a state instead."""
        return self.has_cache and not self.facts.state_numbers

    @property
    def is_plain_attention(self) -> bool:
        """The same, with keys and values for each head and not one compressed vector."""
        return self.is_all_attention and not self.facts.latent

    @cached_property
    def active_matrix_parameters(self) -> int:
        """Parameters of Linear layers that one token is multiplied with; output layer and routers not counted."""
        return int(sum(linear.parameters * self._share(linear) for linear in self.linears))

    def weight_bytes(
        self, scheme: Scheme, group_size: int | None = None, compute_bytes: int = 2, active: bool = False
    ) -> float:
        """Memory of the weights under a scheme, in bytes.

        Args:
            group_size: None for the scheme's own.
            compute_bytes: Bytes of an unquantized number; 4 where the engine runs in float32.
            active: Only what a step of decoding reads for one token.
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
        others = self.other_parameters - (self._unread_parameters if active else 0)
        total = float(others * compute_bytes)
        for linear in self.linears:
            share = self._share(linear) if active else 1.0
            total += share * _bytes(linear, number_format, group_size, compute_bytes)
        return total

    def routed_bytes(self, configuration: Configuration) -> float:
        """Of `configured_weight_bytes`, what belongs to experts that only some tokens pass through."""
        if (rounded := self._rounded_bytes(configuration)) is not None:
            return rounded * self._routed_part
        number_format, compute = FORMATS[configuration.scheme], self.compute_bytes(configuration)
        routed = (linear for linear in self.linears if linear.routed)
        return sum(_bytes(linear, number_format, configuration.group_size, compute) for linear in routed)

    def configured_weight_bytes(self, configuration: Configuration, active: bool = False) -> float:
        """`weight_bytes` of a configuration, its `dtype` setting included; of a quantized checkpoint by its files."""
        compute = self.compute_bytes(configuration)
        if (rounded := self._rounded_bytes(configuration)) is not None:
            others = self.other_parameters - (self._unread_parameters if active else 0)
            return others * compute + rounded * (self._active_part if active else 1.0)
        return self.weight_bytes(configuration.scheme, configuration.group_size, compute, active)

    def loaded_bytes(self, configuration: Configuration) -> float | None:
        """What an engine reads from its files when it starts; None where nobody knows."""
        return self.configured_weight_bytes(configuration) if self.is_known else self.facts.weight_bytes

    def _rounded_bytes(self, configuration: Configuration) -> float | None:
        """What the quantized matrices of a published checkpoint take; None for what is made, or is not quantized."""
        found = self.published(configuration)
        if found is None or found.format is None or found.weight_bytes is None:
            return None
        return max(0.0, found.weight_bytes - 2.0 * self.other_parameters)

    @cached_property
    def _active_part(self) -> float:
        """Of the parameters that are rounded, the share that a token passes through."""
        return self.active_matrix_parameters / max(1, sum(linear.parameters for linear in self.linears))

    @cached_property
    def _routed_part(self) -> float:
        """Of the parameters that are rounded, the share of routed experts."""
        routed = sum(linear.parameters for linear in self.linears if linear.routed)
        return routed / max(1, sum(linear.parameters for linear in self.linears))

    def compute_bytes(self, configuration: Configuration) -> int:
        """Bytes of an unquantized number in the engine, which serves float32 checkpoints in 16 bit unless told."""
        return _BYTES.get(str(dict(configuration.engine).get("dtype", "auto")), 2)

    def kv_bytes_per_token(self, kv_cache_dtype: str = "auto", compute_bytes: int = 2) -> float:
        """KV cache of one more token, all layers together, in bytes; 0 where it is not known."""
        numbers = sum(cache.layers * cache.numbers / cache.tokens_per_entry for cache in self.facts.cache or ())
        return numbers * cache_bytes(kv_cache_dtype, compute_bytes)

    def kv_bytes(self, tokens: int, kv_cache_dtype: str = "auto", compute_bytes: int = 2) -> float:
        """What one sequence of this length keeps: KV cache, no more than the window of layers that have one, and
        the states of layers that keep one."""
        numbers = sum(cache.cached_by(tokens) for cache in self.facts.cache or ())
        return numbers * cache_bytes(kv_cache_dtype, compute_bytes) + self.facts.state_numbers * compute_bytes

    def adapter_bytes(self, tensor: int = 1, data: int = 1, compute_bytes: int = 2) -> float:
        """Memory that one accelerator keeps for adapters, loaded or not (`create_lora_weights`, vLLM 0.32).

        Of both thin matrices beside a large one, the side that is cut with it is cut. A lower bound: of matrices that
        vLLM stacks, it gives room to those too that no adapter changes.

        Args:
            tensor, data: Accelerators over which matrices, and experts beside that, are spread.
        """
        slots = self.adapters
        if slots is None:
            return 0.0
        numbers = 0.0
        for linear in self.linears:
            if slots.targets and (EXPERTS if linear.routed else linear.short_name) not in slots.targets:
                continue
            rows = linear.rows / (tensor if linear.split is Split.ROWS else 1)
            columns = linear.columns / (tensor if linear.split is Split.COLUMNS else 1)
            numbers += (rows + columns) * linear.count / (data if linear.routed else 1)
        return numbers * slots.rank * slots.count * compute_bytes

    @property
    def routed_share(self) -> float:
        """Of its routed experts, the share that a token passes through; 1 where there are none."""
        return self.facts.experts_per_token / self.facts.experts if self.facts.experts else 1.0

    def _share(self, linear: Matrix) -> float:
        return self.routed_share if linear.routed else 1.0

    @cached_property
    def _unread_parameters(self) -> int:
        """Tables of which a step reads a row, and what is not for text. A table that is the output layer too is read
        whole."""
        unread = {matrix: matrix.parameters for matrix in self.facts.matrices if matrix.role in _BESIDE_TEXT}
        tables = [matrix for matrix in self.facts.matrices if matrix.role is Role.EMBEDDING]
        if tables and not any(matrix.role is Role.OUTPUT_HEAD for matrix in self.facts.matrices):
            tables.remove(max(tables, key=lambda table: (table.rows == self.facts.vocab_size, table.parameters)))
        return sum(unread.values()) + sum(table.parameters for table in tables)


def _bytes(linear: Matrix, number_format: NumberFormat, group_size: int | None, compute_bytes: int) -> float:
    """All matrices of one kind."""
    if number_format.quantized:
        return linear.count * number_format.matrix_bytes(linear.rows, linear.columns, group_size)
    return linear.parameters * compute_bytes
