"""What an engine keeps in each GPU's memory, in the order in which vLLM allocates it, and where that ends.

By vllm/v1/worker/gpu_worker.py and vllm/v1/core/kv_cache_utils.py of 0.32: weights are loaded; a step with the largest
batch and the sampler's buffers are tried and their peak is set aside, with graphs; what `gpu-memory-utilization` leaves
is the KV cache. Then graphs are captured into what is left of the device.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.checkpoints import Checkpoint, Tensor
from tests.cluster.rehearsal.devices import Device

GIB = 2**30

_COLUMN_PARALLEL = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head")
_ROW_PARALLEL = ("o_proj", "down_proj")
_KEYS_VALUES = ("k_proj", "v_proj")

_RESIDUALS = 4
"""Copies of the hidden states that live at once: residual, normed, attention's, and what is added up."""
_LOGIT_BYTES = 14
"""Of one sequence and token of the vocabulary: 16 and 32 bit, and sorted values with their places (top-k, top-p)."""
_GRAPH_BYTES_PER_LAYER = 110_000
_LARGEST_GRAPH = 512
_GRAPHS = {"FULL_AND_PIECEWISE": 2, "PIECEWISE": 1, "FULL_DECODE_ONLY": 1, "FULL": 1, "NONE": 0}
"""Kinds of graphs that are captured, each for every size of batch."""
_SLACK_GIB = 0.35
"""What fragments and late allocations need of what `gpu-memory-utilization` leaves to others."""


class OutOfMemory(Exception):
    """The engine does not start; the message is vLLM's or torch's own.

    Attributes:
        kind: The exception's class.
        in_worker: Whether a worker raised it, and not the core that started the workers.
    """

    def __init__(self, kind: str, message: str, *, in_worker: bool) -> None:
        super().__init__(message)
        self.kind, self.in_worker = kind, in_worker


@dataclass(frozen=True)
class Memory:
    """Of the fullest GPU of a replica, in bytes.

    Attributes:
        cache_tokens: What the KV caches of one data-parallel rank hold together.
        max_model_len: Longest request.
    """

    weights: float
    activations: float
    graphs: float
    communication: float
    cache: float
    cache_tokens: int
    max_model_len: int


def allocate(device: Device, checkpoint: Checkpoint, arguments: Arguments) -> Memory:
    """Raises OutOfMemory."""
    total, taken = device.memory_gib * GIB, device.taken_gib * GIB
    requested = total * arguments.utilization
    if arguments.cache_bytes is None and total - taken < requested:
        raise OutOfMemory("ValueError", _not_free(device, arguments), in_worker=True)
    shards = [(tensor, _share(tensor, checkpoint, arguments)) for tensor in checkpoint.tensors]
    weights = _fullest_stage(shards, checkpoint["num_hidden_layers"], arguments.pipeline)
    largest = max(share for _, share in shards)
    if taken + weights + largest > total:
        raise OutOfMemory("torch.OutOfMemoryError", _oom(device, largest, weights), in_worker=True)
    communication = device.link.buffers_gib * GIB if arguments.tensor * arguments.pipeline > 1 else 0.0
    activations = _activations(device, checkpoint, arguments)
    if taken + weights + communication + activations > total:
        raise OutOfMemory("torch.OutOfMemoryError", _oom(device, activations / 2, weights), in_worker=True)
    graphs = _graphs(device, checkpoint, arguments)
    cache = arguments.cache_bytes or requested - weights - communication - activations - graphs
    each = token_bytes(checkpoint, arguments)
    length = _length(cache, each, checkpoint, arguments)
    if taken + weights + communication + cache + graphs + activations + _SLACK_GIB * GIB > total:
        raise _too_late(device, checkpoint, arguments, total - taken - 2**28)
    return Memory(weights, activations, graphs, communication, cache, int(cache / each), length)


def token_bytes(checkpoint: Checkpoint, arguments: Arguments) -> float:
    """KV cache of one token on one GPU; heads fewer than GPUs are copied."""
    size = 1 if arguments.cache_dtype.startswith("fp8") else 2
    heads = max(1.0, checkpoint.kv_heads / arguments.tensor)
    layers = checkpoint["num_hidden_layers"] / arguments.pipeline
    return 2 * layers * heads * checkpoint.head_size * size


def _share(tensor: Tensor, checkpoint: Checkpoint, arguments: Arguments) -> float:
    """Bytes of a tensor on one GPU of a stage."""
    owner = next((part for part in tensor.name.split(".") if part in (*_COLUMN_PARALLEL, *_ROW_PARALLEL)), None)
    if owner is None or len(tensor.shape) == 1:
        return tensor.size_bytes
    ways = min(arguments.tensor, checkpoint.kv_heads) if owner in _KEYS_VALUES else arguments.tensor
    if owner in _ROW_PARALLEL and tensor.shape[-1] == 1:  # a scale for each output
        return tensor.size_bytes
    return tensor.size_bytes / ways


def _fullest_stage(shards: list[tuple[Tensor, float]], layers: int, stages: int) -> float:
    sizes = [0.0] * stages
    for tensor, share in shards:
        parts = tensor.name.split(".")
        if "layers" in parts:
            stage = int(parts[parts.index("layers") + 1]) * stages // layers
        else:
            stage = 0 if "embed_tokens" in parts else stages - 1
        sizes[stage] += share
    return max(sizes)


def _activations(device: Device, checkpoint: Checkpoint, arguments: Arguments) -> float:
    """The larger of the widest moment of a step and the sampler's buffers."""
    return max(_step(device, checkpoint, arguments), _sampler(device, checkpoint, arguments))


def _step(device: Device, checkpoint: Checkpoint, arguments: Arguments) -> float:
    inner = checkpoint["intermediate_size"] / arguments.tensor
    rounded = 1 if checkpoint.format.activations != "bf16" else 0
    hidden = _RESIDUALS * 2 * checkpoint["hidden_size"]
    return arguments.batched_tokens(device) * (hidden + 2 * inner * 2 + inner * (2 + rounded))


def _sampler(device: Device, checkpoint: Checkpoint, arguments: Arguments) -> float:
    return arguments.sequences(device) * checkpoint["vocab_size"] * _LOGIT_BYTES


def _too_late(device: Device, checkpoint: Checkpoint, arguments: Arguments, held: float) -> OutOfMemory:
    """With the cache in its place the largest step, or the sampler, is tried once more."""
    step, sampler = _step(device, checkpoint, arguments), _sampler(device, checkpoint, arguments)
    if step >= sampler:
        return OutOfMemory("torch.OutOfMemoryError", _oom(device, step / 2, held), in_worker=True)
    requests = arguments.sequences(device)
    message = (
        f"CUDA out of memory occurred when warming up sampler with {requests} dummy requests. Please try lowering "
        "`max_num_seqs` or `gpu_memory_utilization` when initializing the engine."
    )
    return OutOfMemory("RuntimeError", message, in_worker=True)


def _graphs(device: Device, checkpoint: Checkpoint, arguments: Arguments) -> float:
    largest = int(arguments.given.get("max-cudagraph-capture-size", _LARGEST_GRAPH))
    largest = min(largest, 2 * arguments.sequences(device))
    sizes = 3 + largest // 8 if largest <= 256 else 35 + (largest - 256) // 16
    layers = checkpoint["num_hidden_layers"] / arguments.pipeline
    return _GRAPHS.get(arguments.graphs, 2) * sizes * layers * _GRAPH_BYTES_PER_LAYER


def _length(cache: float, each: float, checkpoint: Checkpoint, arguments: Arguments) -> int:
    """Longest request. Raises OutOfMemory where the cache does not hold one."""
    if cache <= 0:
        raise OutOfMemory(
            "ValueError",
            "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the "
            "engine (this flag also controls CPU memory reservation on the CPU backend, despite its name). See "
            "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details.",
            in_worker=False,
        )
    longest = checkpoint["max_position_embeddings"]
    holds = int(cache / each)
    if arguments.max_model_len is None:
        return min(longest, holds)
    if holds < arguments.max_model_len:
        needed = arguments.max_model_len * each / GIB
        raise OutOfMemory(
            "ValueError",
            f"To serve at least one request with the model's max seq len ({arguments.max_model_len}), ({needed:.2f} "
            f"GiB KV cache is needed, which is larger than the available KV cache memory ({cache / GIB:.2f} GiB). "
            f"Based on the available memory, the estimated maximum model length is {holds}. Try increasing "
            "`gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or decreasing "
            "`max_model_len` when initializing the engine. See "
            "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details.",
            in_worker=False,
        )
    return arguments.max_model_len


def _not_free(device: Device, arguments: Arguments) -> str:
    free, total = device.memory_gib - device.taken_gib, device.memory_gib
    wanted = total * arguments.utilization
    return (
        f"Free memory on device {'cuda:0'} ({free:.2f}/{total:.2f} GiB) on startup is less than desired GPU memory "
        f"utilization ({arguments.utilization}, {wanted:.2f} GiB). Decrease GPU memory utilization or reduce GPU "
        "memory used by other processes."
    )


def _oom(device: Device, wanted: float, held: float) -> str:
    """torch's message, for CUDA and for HIP."""
    runtime = "CUDA" if device.vendor == "nvidia" else "HIP"
    free = max(2**20, (device.memory_gib - device.taken_gib) * GIB - held)
    asked = f"{wanted / GIB:.2f} GiB" if wanted >= GIB else f"{wanted / 2**20:.2f} MiB"
    left = f"{free / GIB:.2f} GiB" if free >= GIB else f"{free / 2**20:.2f} MiB"
    return (
        f"{runtime} out of memory. Tried to allocate {asked}. GPU 0 has a total capacity of {device.memory_gib:.2f} "
        f"GiB of which {left} is free. Including non-PyTorch memory, this process has {held / GIB:.2f} GiB memory in "
        f"use. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to "
        "avoid fragmentation."
    )
