"""What the rehearsed GPUs do, as far as kernels reach it: rates that were measured, and not those of data sheets.

The control plane orders candidates by peak rates of its own catalogue. Nothing of that is used here, so that a tuning
can be surprised. Standard library only: it runs in an image that has nothing but Python.

Sources, by the names that the comments below use:
- maf: largest matrix products that were measured. H100: github.com/stas00/ml-engineering, compute/accelerator,
  "Maximum Achievable Matmul FLOPS"; MI300X: AMD's "Measuring Max-Achievable FLOPs", part 2.
- stream: reading from memory; 85 to 92 % of the data sheet on NVIDIA, 75 to 80 % on MI300X (BabelStream).
- qserve: arXiv 2405.04532, 3.2 and 4.1: unpacking 4-bit weights costs instructions of the CUDA cores, of which an L40S
  has more for each tensor-core operation than an A100 or an H100.
- machete: Red Hat's "Introducing Machete": kernels for Ampere (Marlin) reach some 62 % of an H100's tensor cores.
- nccl: nccl-tests; NVLink 4 some 350 GB/s for two GPUs, PCIe 4.0 without peer access some 20 GB/s.
- custom: vLLM's own all-reduce over NVLink, and NCCL's over PCIe, of a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Arithmetic(StrEnum):
    """What tensor cores multiply."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"


@dataclass(frozen=True)
class Link:
    """How the GPUs of a node talk.

    Attributes:
        bus_gb_s: Bandwidth of a large all-reduce, as nccl-tests count it ("busbw").
        latency_us: Of the smallest all-reduce.
        buffers_gib: What communicating keeps of each GPU's memory.
    """

    bus_gb_s: float
    latency_us: float
    buffers_gib: float

    def all_reduce_s(self, size_bytes: float, ranks: int) -> float:
        if ranks == 1:
            return 0.0
        return self.latency_us * 1e-6 + 2 * (ranks - 1) / ranks * size_bytes / (self.bus_gb_s * 1e9)

    def send_s(self, size_bytes: float) -> float:
        return self.latency_us * 1e-6 + size_bytes / (self.bus_gb_s * 1e9)


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        product: As its node's labels say it.
        vendor: Whose words it fails in: CUDA or HIP.
        memory_gib: As torch reports it.
        taken_gib: By driver and runtime, before an engine allocates anything.
        read_gb_s: Reached when weights and KV cache are read.
        tensor_tflops: Reached by the best kernels for large products.
        vector_tops: Instructions of all lanes that are no tensor cores, in 1e12 a second.
        units: Multiprocessors, over which a product's tiles are spread.
        launch_us: Of one kernel, inside a graph.
    """

    product: str
    vendor: str
    memory_gib: float
    taken_gib: float
    read_gb_s: float
    tensor_tflops: Mapping[Arithmetic, float]
    vector_tops: float
    units: int
    launch_us: float
    link: Link


L40S = Device(
    product="NVIDIA-L40S",
    vendor="nvidia",
    memory_gib=44.39,
    taken_gib=0.45,
    read_gb_s=864 * 0.87,  # stream
    # 350 W hold the clock down in long products: some 60 % of the data sheet, which nobody keeps a table of.
    tensor_tflops={Arithmetic.BF16: 215, Arithmetic.FP8: 375, Arithmetic.INT8: 400},
    vector_tops=45.8,  # qserve; 91.6 TFLOPS of FP32 are half as many instructions
    units=142,
    launch_us=1.6,
    link=Link(bus_gb_s=20, latency_us=38, buffers_gib=0.35),  # nccl, custom
)
H100 = Device(
    product="NVIDIA-H100-80GB-HBM3",
    vendor="nvidia",
    memory_gib=79.10,
    taken_gib=0.5,
    read_gb_s=3350 * 0.9,  # stream
    tensor_tflops={Arithmetic.BF16: 790, Arithmetic.FP8: 1400, Arithmetic.INT8: 1250},  # maf
    vector_tops=33.5,  # qserve
    units=132,
    launch_us=1.4,
    link=Link(bus_gb_s=340, latency_us=9, buffers_gib=0.6),  # nccl, custom
)
MI300X = Device(
    product="AMD_Instinct_MI300X_OAM",
    vendor="amd",
    memory_gib=191.98,
    taken_gib=0.7,
    read_gb_s=5300 * 0.77,  # stream
    tensor_tflops={Arithmetic.BF16: 708, Arithmetic.FP8: 1270, Arithmetic.INT8: 1100},  # maf
    vector_tops=81.7,
    units=304,
    launch_us=2.6,
    link=Link(bus_gb_s=310, latency_us=14, buffers_gib=0.9),
)
DEVICES: Mapping[str, Device] = {device.product: device for device in (L40S, H100, MI300X)}
