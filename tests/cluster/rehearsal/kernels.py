"""How long one step of an engine takes, kernel by kernel.

A product of matrices takes as long as its slowest resource: reading the weights, tensor cores on whole tiles, or the
other lanes, which unpack 4-bit weights once for every tile of rows. That last term is why 4-bit weights, which win
where weights are read (few rows), lose where they are multiplied, and more so on a GPU whose tensor cores outrun its
other lanes. `devices` has the sources of rates, `_KERNELS` what each kernel makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil

from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.checkpoints import Checkpoint, NumberFormat
from tests.cluster.rehearsal.devices import Arithmetic, Device
from tests.cluster.rehearsal.memory import token_bytes


@dataclass(frozen=True)
class Kernel:
    """How a library multiplies one number format on one vendor's GPUs.

    Attributes:
        arithmetic: On which tensor cores.
        reached: Share of `Device.tensor_tflops`.
        read: Share of `Device.read_gb_s` with few rows.
        unpack: Instructions for each weight, once for every tile of rows.
        tile: Rows that share one unpacking.
    """

    arithmetic: Arithmetic
    reached: float = 1.0
    read: float = 1.0
    unpack: float = 0.0
    tile: int = 128


_BF16, _FP8, _INT8 = Arithmetic.BF16, Arithmetic.FP8, Arithmetic.INT8
_MARLIN_HOPPER = Kernel(_BF16, reached=0.62, read=0.9, unpack=3.0, tile=64)  # machete
_KERNELS: dict[tuple[str, str], Kernel] = {
    ("NVIDIA", "bf16"): Kernel(_BF16),
    ("NVIDIA", "fp8"): Kernel(_FP8, reached=0.9, read=0.97),  # CUTLASS, scales for every row and column
    ("NVIDIA", "int8"): Kernel(_INT8, reached=0.85, read=0.95),
    ("NVIDIA-L40S", "w4"): Kernel(_BF16, reached=0.92, read=0.92, unpack=2.5, tile=64),  # Marlin
    ("NVIDIA-H100-80GB-HBM3", "w4"): Kernel(_BF16, reached=0.78, read=0.82, unpack=3.0),  # Machete
    ("NVIDIA", "w8"): Kernel(_BF16, reached=0.62, read=0.93, unpack=1.0, tile=64),
    # hipBLASLt by itself, and AMD's own kernels (AITER).
    ("AMD", "bf16"): Kernel(_BF16, reached=0.85, read=0.9),
    ("AMD", "fp8"): Kernel(_FP8, reached=0.7, read=0.85),
    ("AMD aiter", "fp8"): Kernel(_FP8, reached=0.88, read=0.95),
    ("AMD", "int8"): Kernel(_INT8, reached=0.4, read=0.7),  # Triton
    ("AMD aiter", "int8"): Kernel(_INT8, reached=0.6, read=0.85),
    ("AMD", "w4"): Kernel(_BF16, reached=0.4, read=0.38, unpack=9.0, tile=64),  # Triton
    ("AMD", "w8"): Kernel(_BF16, reached=0.4, read=0.5, unpack=4.0, tile=64),
}
_BACKENDS = {"torch": 0.95, "triton": 0.8, "cutlass": 1.0}
"""Of `--linear-backend`: share of the first choice."""

_OVERLAP = 0.7
"""Share of the shorter of unpacking and multiplying that hides behind the longer (qserve, figure 5)."""
_ATTENTION = {"": 0.85, "FLASH_ATTN": 0.85, "FLASHINFER": 0.87, "TRITON_ATTN": 0.7, "ROCM_AITER_FA": 0.8}
_ROCM_ATTENTION, _AITER_ATTENTION = 0.45, 0.75
"""Share of the memory's bandwidth at which the KV cache is read; on AMD by vLLM's own kernels and by AITER's."""
_ADA_FP8_CACHE = 0.8
"""FP8 keys are widened before they are multiplied; FlashAttention 3 on Hopper multiplies them."""
_PROMPT_ATTENTION = 0.45
"""Share of the tensor cores' rate in attention over prompts."""
_NORM_PASSES, _ROCM_PASSES = 8, 14
"""Times that a layer reads or writes the hidden states beside its products; AITER fuses some."""
_LAYER_KERNELS = 11
_EAGER_LAUNCH_US = 5.0
_PIECEWISE_LAUNCHES = 3
"""Of a layer that are outside piecewise graphs."""
_HOST_S, _HOST_PER_SEQUENCE_S = 0.0006, 3e-6
"""Scheduling and sampling that the GPU waits for, after what runs ahead of it."""


@dataclass(frozen=True)
class Step:
    """What one step computes, for one group of sequences.

    Attributes:
        decoding: Sequences that get a token.
        context: Cached tokens that they read, all together.
        prompts: For each chunk of a prompt, (tokens, tokens of it before them).
    """

    decoding: int
    context: int
    prompts: Sequence[tuple[int, int]] = ()

    @property
    def rows(self) -> int:
        return self.decoding + sum(tokens for tokens, _ in self.prompts)


class StepTimes:
    """Of one engine: device, model and arguments are fixed."""

    def __init__(self, device: Device, checkpoint: Checkpoint, arguments: Arguments) -> None:
        self._device, self._model, self._arguments = device, checkpoint, arguments
        self._products = lru_cache(4096)(self._products_s)

    def seconds(self, step: Step) -> float:
        """From one end of the pipeline to the other."""
        layers, stages = self._model["num_hidden_layers"], self._arguments.pipeline
        one = self._products(step.rows) + self._attention_s(step) + self._rest_s(step) + self._all_reduces_s(step)
        between = (stages - 1) * self._device.link.send_s(2.0 * step.rows * self._model["hidden_size"])
        sampled = step.decoding + len(step.prompts)
        return layers * one + between + self._head_s(sampled) + _HOST_S + sampled * _HOST_PER_SEQUENCE_S

    @cached_property
    def _format(self) -> NumberFormat:
        return self._model.format

    @cached_property
    def kernel(self) -> Kernel:
        """What multiplies the decoder's matrices."""
        device, found, arguments = self._device, self._format, self._arguments
        short = found.activations if not found.weight_only else ("w4" if found.weight_bits <= 4 else "w8")
        vendor = device.vendor.upper()
        if arguments.linear_backend == "marlin":
            return _MARLIN_HOPPER if short == "w4" else _KERNELS["NVIDIA", "w8"]
        names = (device.product, f"{vendor} aiter" if self._linear_aiter else vendor, vendor)
        return next(_KERNELS[name, short] for name in names if (name, short) in _KERNELS)

    @property
    def _linear_aiter(self) -> bool:
        return self._arguments.aiter and not self._arguments.without("LINEAR")

    def _products_s(self, rows: int) -> float:
        """The four products of a layer: attention's input and output, the perceptron's two."""
        model, ways = self._model, self._arguments.tensor
        hidden, inner, size = model["hidden_size"], model["intermediate_size"], model.head_size
        heads, kv_heads = model["num_attention_heads"] / ways, max(1.0, model.kv_heads / ways)
        shapes = (
            ((heads + 2 * kv_heads) * size, hidden),
            (hidden, heads * size),
            (2 * inner / ways, hidden),
            (hidden, inner / ways),
        )
        return sum(self._product_s(rows, outputs, inputs) for outputs, inputs in shapes)

    def _product_s(self, rows: int, outputs: float, inputs: float) -> float:
        device, kernel, found = self._device, self.kernel, self._format
        backend = _BACKENDS.get(self._arguments.linear_backend, 1.0)
        bits = found.weight_bits + (0.125 if found.weight_bits <= 4 else 0)  # a 16-bit scale for 128 weights
        moved = outputs * inputs * bits / 8 + 2 * rows * (inputs + outputs)
        reading = moved / (device.read_gb_s * 1e9 * kernel.read)
        small = rows <= 64
        tile = 16 if small else 128
        padded = ceil(rows / tile) * tile
        rate = device.tensor_tflops[kernel.arithmetic] * 1e12 * kernel.reached * backend
        multiplying = 2 * padded * outputs * inputs / (rate * (1.0 if small else self._filled(padded, outputs)))
        unpacking = kernel.unpack * outputs * inputs * ceil(rows / kernel.tile) / (device.vector_tops * 1e12)
        computing = max(multiplying, unpacking) + (1 - _OVERLAP) * min(multiplying, unpacking)
        return max(reading, computing) + self._rounding_s(rows, inputs)

    def _filled(self, rows: int, outputs: float) -> float:
        """Share of the multiprocessors that have a tile, the last round of tiles included."""
        tiles = rows / 128 * max(1.0, outputs / 128)
        rounds = tiles / self._device.units
        return rounds / ceil(rounds) if rounds > 1 else max(0.5, rounds)

    def _rounding_s(self, rows: int, inputs: float) -> float:
        """Activations become 8 bits wide in a pass of their own; half of those are fused with what is before them."""
        if self._format.activations == "bf16":
            return 0.0
        return 0.5 * (3 * rows * inputs / (self._device.read_gb_s * 1e9) + 1e-6 * self._device.launch_us)

    def _attention_s(self, step: Step) -> float:
        model, arguments, device = self._model, self._arguments, self._device
        layers = model["num_hidden_layers"] / arguments.pipeline
        read = step.context * token_bytes(model, arguments) / layers
        share = self._attention_share
        heads = model["num_attention_heads"] / arguments.tensor
        pairs = sum(tokens * (before + tokens / 2) for tokens, before in step.prompts)
        flops = 4 * pairs * heads * model.head_size
        rate = device.tensor_tflops[_BF16] * 1e12 * _PROMPT_ATTENTION * share / 0.85
        return read / (device.read_gb_s * 1e9 * share) + flops / rate

    @cached_property
    def _attention_share(self) -> float:
        arguments, device = self._arguments, self._device
        share = _ATTENTION.get(arguments.attention_backend, 0.8)
        if device.vendor == "amd" and not arguments.attention_backend:
            share = _AITER_ATTENTION if arguments.aiter else _ROCM_ATTENTION
        if arguments.cache_dtype.startswith("fp8") and "L40S" in device.product:
            share *= _ADA_FP8_CACHE
        return share

    def _rest_s(self, step: Step) -> float:
        """Norms, positions, activations; and launching."""
        device, arguments = self._device, self._arguments
        slow = device.vendor == "amd" and (not arguments.aiter or arguments.without("RMSNORM"))
        passes = _ROCM_PASSES if slow else _NORM_PASSES
        moved = 2 * step.rows * self._model["hidden_size"] * passes
        return moved / (device.read_gb_s * 1e9) + 1e-6 * self._launches_us(step)

    def _launches_us(self, step: Step) -> float:
        device, graphs = self._device, self._arguments.graphs
        captured = step.rows <= int(self._arguments.given.get("max-cudagraph-capture-size", 512))
        if graphs == "FULL_DECODE_ONLY":
            captured = captured and not step.prompts
        if graphs == "NONE" or not captured:
            # The host runs ahead of long kernels: only what it does not hide is seen.
            hidden = min(1.0, step.rows / 2048)
            return _LAYER_KERNELS * (device.launch_us + (_EAGER_LAUNCH_US - device.launch_us) * (1 - hidden))
        outside = _PIECEWISE_LAUNCHES if graphs == "PIECEWISE" or step.prompts else 0
        return (_LAYER_KERNELS - outside) * device.launch_us + outside * _EAGER_LAUNCH_US

    def _all_reduces_s(self, step: Step) -> float:
        """After attention and after the perceptron."""
        size = 2.0 * step.rows * self._model["hidden_size"]
        return 2 * self._device.link.all_reduce_s(size, self._arguments.tensor)

    def _head_s(self, sampled: int) -> float:
        """The output head stays in 16 bit."""
        device, ways = self._device, self._arguments.tensor
        size = 2.0 * self._model["vocab_size"] * self._model["hidden_size"] / ways
        flops = sampled * size
        computing = flops / (device.tensor_tflops[_BF16] * 1e12)
        gathered = device.link.all_reduce_s(2.0 * sampled * self._model["vocab_size"] / 2, ways)
        return max(size / (device.read_gb_s * 1e9), computing) + gathered
