"""What a scheme stores: bits of a weight, how many weights share a scale, bits of an activation.

From the preset schemes of compressed-tensors 0.19 (`compressed_tensors/quantization/quant_scheme.py`), which
llm-compressor 0.14 quantizes by.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from haqa_contract import Configuration, Scheme

PER_CHANNEL = -1
"""As a group size: one scale for each output channel."""


@dataclass(frozen=True)
class NumberFormat:
    """Number format of one scheme.

    Attributes:
        weight_bits: Bits of one weight in the engine's memory.
        activation_bits: Bits of the activations that a quantized matrix product reads.
        group_size: Weights of a row that share one scale; `PER_CHANNEL` = the whole row.
        groups_chosen: Whether `groupSizes` may choose another group size.
        scale_bits: Bits of one scale.
        zero_point_bits: Bits that a group has beside its scale; 0 for symmetric schemes.
        block_rows: Rows that share a scale too, for block-wise schemes; 1 for others.
    """

    weight_bits: int
    activation_bits: int = 16
    group_size: int = PER_CHANNEL
    groups_chosen: bool = False
    scale_bits: int = 16
    zero_point_bits: int = 0
    block_rows: int = 1

    def matrix_bytes(self, rows: int, columns: int, group_size: int | None = None) -> float:
        """Memory of one weight matrix with its scales, in bytes.

        Args:
            group_size: None for the format's own.
        """
        size = self.group_size if group_size is None else group_size
        groups = 1 if size == PER_CHANNEL else ceil(columns / size)
        scales = groups * ceil(rows / self.block_rows) * (self.scale_bits + self.zero_point_bits) / 8
        return rows * columns * self.weight_bits / 8 + (scales if self.quantized else 0)

    @property
    def quantized(self) -> bool:
        return self.weight_bits < 16


FORMATS: dict[Scheme, NumberFormat] = {
    Scheme.BF16: NumberFormat(16),
    Scheme.W8A8_INT8: NumberFormat(8, 8),
    Scheme.W4A16: NumberFormat(4, group_size=128, groups_chosen=True),
    Scheme.W4A16_ASYM: NumberFormat(4, group_size=128, groups_chosen=True, zero_point_bits=4),
    Scheme.W8A16: NumberFormat(8, group_size=128, groups_chosen=True),
    Scheme.W4A8: NumberFormat(4, 8, group_size=128, groups_chosen=True),
    Scheme.W4AFP8: NumberFormat(4, 8, group_size=128, groups_chosen=True),
    Scheme.FP8_DYNAMIC: NumberFormat(8, 8),
    Scheme.FP8_BLOCK: NumberFormat(8, 8, group_size=128, block_rows=128),
    Scheme.NVFP4: NumberFormat(4, 4, group_size=16, scale_bits=8),
    Scheme.NVFP4A16: NumberFormat(4, group_size=16, scale_bits=8),
    Scheme.MXFP4: NumberFormat(4, 4, group_size=32, scale_bits=8),
    Scheme.MXFP4A16: NumberFormat(4, group_size=32, scale_bits=8),
    Scheme.MXFP8: NumberFormat(8, 8, group_size=32, scale_bits=8),
    Scheme.OTHER: NumberFormat(8),
}
"""Of `OTHER` nothing is known; a published checkpoint's size is read from its files."""


def group_size(configuration: Configuration) -> int:
    """The group size that a configuration comes to, its scheme's own where it names none."""
    own = configuration.group_size
    return FORMATS[configuration.scheme].group_size if own is None else own


_CACHE_BITS = {"int4": 4, "nvfp4": 4.5, "fp8": 8, "int8": 8, "bfloat16": 16, "float16": 16, "float32": 32}


def cache_bytes(kv_cache_dtype: str, compute_bytes: int) -> float:
    """Bytes of one number in the KV cache, for a value of vLLM's `--kv-cache-dtype`.

    Args:
        compute_bytes: Bytes of the type the model computes in, which `auto` stands for.
    """
    for start, bits in _CACHE_BITS.items():
        if kv_cache_dtype.startswith(start):
            return bits / 8
    return compute_bytes
