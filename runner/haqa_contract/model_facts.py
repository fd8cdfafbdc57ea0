"""What a model is made of: its matrices by what they are for, and what it keeps for each token of a sequence.

The runner reads it from the model's own class (`haqa_runner.models.architecture`); the control plane, which has no
torch, works out from it what fits and how fast it can be.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from haqa_contract.base import Contract
from haqa_contract.configuration import Algorithm, Scheme


class Role(StrEnum):
    """What a matrix is for."""

    ATTENTION = "attention"
    MLP = "mlp"
    ROUTED_EXPERT = "routed-expert"
    SHARED_EXPERT = "shared-expert"
    LINEAR_ATTENTION = "linear-attention"
    """State-space layers and short convolutions too"""
    ROUTER = "router"
    """Decides which expert, or which tokens (an indexer), the others work on"""
    EMBEDDING = "embedding"
    OUTPUT_HEAD = "output-head"
    VISION = "vision"
    AUDIO = "audio"
    PROJECTOR = "projector"
    """Between a tower and the text model"""
    PREDICTION = "prediction"
    """Guesses the tokens after the next one"""
    OTHER = "other"


ROUNDABLE: Final = frozenset({Role.ATTENTION, Role.MLP, Role.ROUTED_EXPERT, Role.SHARED_EXPERT, Role.LINEAR_ATTENTION})
"""Large, and a token's way through all layers: what quantization is for. The rest is small, decisive or not text."""


class Split(StrEnum):
    """How tensor parallelism cuts a matrix: by its rows (outputs), by its columns (inputs), or not at all."""

    ROWS = "rows"
    COLUMNS = "columns"
    NONE = "none"


class Matrix(Contract):
    """All matrices of one name and shape."""

    name: str
    """Path below the layer, or from the model's root, without numbers: `self_attn.q_proj`"""
    role: Role
    rows: int = Field(ge=0)
    """Outputs"""
    columns: int = Field(ge=0)
    """Inputs, which groups of weights divide"""
    count: int = Field(ge=1)
    """How many the model has, experts counted one by one"""
    split: Split = Split.NONE
    rounded: bool = False
    """Quantization rounds it: a Linear layer of a role in `ROUNDABLE`, and not one of the few small ones there"""

    @property
    def parameters(self) -> int:
        return self.rows * self.columns * self.count

    @property
    def routed(self) -> bool:
        """Belongs to an expert that only some tokens pass through."""
        return self.role is Role.ROUTED_EXPERT

    @property
    def short_name(self) -> str:
        """The last part: `q_proj`."""
        return self.name.rpartition(".")[2]


class KvCache(Contract):
    """What some of the layers keep of the sequence."""

    layers: int = Field(ge=1)
    numbers: int = Field(ge=1)
    """One layer, one entry: keys and values of all heads, or one compressed vector"""
    window: int | None = None
    """Tokens that are kept at most; None = all"""
    tokens_per_entry: int = Field(default=1, ge=1)
    """Consecutive tokens that share one entry"""

    def cached_by(self, tokens: int) -> int:
        """Numbers that one sequence of this many tokens keeps."""
        kept = min(tokens, self.window) if self.window else tokens
        return self.layers * self.numbers * -(-kept // self.tokens_per_entry)


class CheckpointFormat(Contract):
    """How a published checkpoint is quantized."""

    name: str
    """As people call it: `gptq 4 bit group 128`, `ModelOpt NVFP4`"""
    method: str
    """`quant_method` as vLLM reads it; empty where the files do not name one"""
    scheme: Scheme = Scheme.OTHER
    """The scheme that the engine computes alike"""
    group_size: int | None = None
    """Weights that share one scale, where the scheme leaves a choice; none = the scheme's own"""


class Unsuited(Contract):
    """An algorithm that a model cannot take."""

    algorithm: Algorithm
    reason: str
    """A clause"""


class ModelFacts(Contract):
    """A model as far as memory, kernels and parallelism are concerned."""

    architecture: str
    model_type: str
    source: Literal["class", "headers", "nothing"]
    """Where the matrices are from: the model's class, the names and shapes in its files, or neither is understood"""
    parameters: int = Field(ge=0)
    matrices: tuple[Matrix, ...] = ()
    layers: int = 0
    hidden_size: int = 0
    vocab_size: int = 0
    heads: int = 0
    """Query heads, which tensor parallelism divides; 0 where they are not known"""
    kv_heads: int = 0
    """Key and value heads of the layer with the most; 1 where all heads share one vector"""
    head_dim: int = 0
    latent: bool = False
    """Attention over one compressed vector a token"""
    cache: tuple[KvCache, ...] | None = None
    """None where it is not known what the layers keep"""
    state_numbers: int = Field(default=0, ge=0)
    """Kept for a sequence whatever its length: states of linear attention and convolutions, all layers together"""
    experts: int = 0
    experts_per_token: int = 0
    predicted_tokens: int = 0
    """Tokens beside the next one that layers of the checkpoint predict"""
    max_positions: int | None = None
    """Longest sequence in tokens, as vLLM derives it"""
    dtype: str = "float32"
    weight_bytes: int | None = None
    """Of all tensors in the checkpoint's files"""
    quantization: CheckpointFormat | None = None
    """Format that the checkpoint is in already; None for one that is not quantized"""
    unsuited: tuple[Unsuited, ...] = ()
    """Algorithms that are known to fail on it, or to change what it computes"""
    notes: tuple[str, ...] = ()
    """What somebody should know of how these were found"""

    @property
    def has_output_head(self) -> bool:
        """Of its own, and not the embedding's table read backwards."""
        return any(matrix.role is Role.OUTPUT_HEAD for matrix in self.matrices)

    @property
    def quantized_by(self) -> str | None:
        """Name of the format that the checkpoint is in already."""
        return self.quantization.name if self.quantization else None


def with_head(facts: ModelFacts) -> ModelFacts:
    """Of a model whose output head is rounded with the rest."""
    matrices = (
        matrix.model_copy(update={"rounded": matrix.rounded or matrix.role is Role.OUTPUT_HEAD})
        for matrix in facts.matrices
    )
    return facts.model_copy(update={"matrices": tuple(matrices)})
