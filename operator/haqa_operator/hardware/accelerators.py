"""What a pool's machines are, as far as choosing a quantization depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HardwareError(ValueError):
    """The hardware cannot be told from what the machine or its labels say; the sentence says what to change."""


class NoRoomError(HardwareError):
    """A node that no replica can run on, now or ever: its neighbours in the pool may do without it."""


class Vendor(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"
    CPU = "cpu"


class Platform(StrEnum):
    """vLLM's platforms: each has its own kernels, and so its own answer to which scheme runs."""

    CUDA = "CUDA"
    ROCM = "ROCm"
    XPU = "XPU"
    GAUDI = "Gaudi"
    CPU = "CPU"


@dataclass(frozen=True)
class Rates:
    """Peak rates of one device by number format, dense, in TFLOPS or TOPS; None = no units for it, or no figure.

    Attributes:
        bf16: FP16's where the chip has no BF16 (before Ampere).
    """

    bf16: float | None = None
    int8: float | None = None
    fp8: float | None = None
    fp4: float | None = None

    def share(self, part: float) -> Rates:
        """Those of a part of the device."""
        return Rates(*(None if rate is None else rate * part for rate in (self.bf16, self.int8, self.fp8, self.fp4)))

    def over(self, others: Rates) -> Rates:
        """These, and the others' where there is none."""
        pairs = ((self.bf16, others.bf16), (self.int8, others.int8), (self.fp8, others.fp8), (self.fp4, others.fp4))
        return Rates(*(other if own is None else own for own, other in pairs))


@dataclass(frozen=True)
class Accelerator:
    """The device that one vLLM replica runs on.

    Attributes:
        product: Vendor's name, e.g. `NVIDIA-L40S`, or the CPU's model name. Of a part of a device with the part's name
            behind it: `NVIDIA-A100-SXM4-40GB-MIG-1g.5gb`, `AMD_Instinct_MI300X_OAM-CPX`.
        count: Accelerators per replica; 1 for a CPU machine.
        memory_gib: Memory of one accelerator; of the machine on CPU.
        compute_capability: NVIDIA's (major, minor), else None.
        isa: CPU: widest instruction set that it has (`avx2`, `avx512`, `avx512_vnni`, `avx512_bf16`, `avx512_fp16`,
            `amx`, `neon`), by which vLLM picks the build of its kernels; None where nothing says.
        onednn_cap: CPU: what `ONEDNN_MAX_CPU_ISA` holds oneDNN to, by the same names; None where nothing is capped.
        cores: CPU cores of the machine.
        bandwidth_gb_s: Peak memory bandwidth of one accelerator, where the catalogue knows it.
        rates: Peak rates of one accelerator, where the catalogue knows them.
        resource: What a pod requests to get one, e.g. `nvidia.com/gpu`; None: the vendor's usual name.
        sharing: How others use the same device at the same time (`time-slicing`, `mps`, `vgpu`); None = they do not.
        host_cores, host_memory_gib: Beside an accelerator: its share of the node's processor and memory.
        preloads: CPU: shared libraries that vLLM's guide recommends to preload (allocator, OpenMP) and that lie on this
            machine, as absolute paths; none in a cluster, where the engine's image brings and preloads its own.
        architecture: The catalogue's word for the chip's generation (`hopper`, `gfx942`, `gaudi3`), where it knows it.
    """

    vendor: Vendor
    product: str
    count: int = 1
    memory_gib: float | None = None
    compute_capability: tuple[int, int] | None = None
    isa: str | None = None
    onednn_cap: str | None = None
    cores: int | None = None
    bandwidth_gb_s: float | None = None
    rates: Rates | None = None
    architecture: str | None = None
    resource: str | None = None
    sharing: str | None = None
    host_cores: float | None = None
    host_memory_gib: float | None = None
    preloads: tuple[str, ...] = ()

    @property
    def is_cpu(self) -> bool:
        return self.vendor is Vendor.CPU

    @property
    def platform(self) -> Platform:
        match self.vendor:
            case Vendor.NVIDIA:
                return Platform.CUDA
            case Vendor.AMD:
                return Platform.ROCM
            case Vendor.CPU:
                return Platform.CPU
            case Vendor.INTEL:
                gaudi = "gaudi" in (self.architecture or "") or "gaudi" in self.product.lower()
                return Platform.GAUDI if gaudi else Platform.XPU

    def describe(self) -> str:
        """One line for people and prompts."""
        parts = [self.product if self.count == 1 else f"{self.count} x {self.product}"]
        if self.cores:
            parts.append(f"{self.cores} cores")
        if self.isa:
            parts.append(f"instruction set up to {self.isa}")
        if self.onednn_cap and self.onednn_cap != self.isa:
            parts.append(f"oneDNN capped to {self.onednn_cap}")
        if self.memory_gib:
            parts.append(f"{self.memory_gib:.0f} GiB")
        if self.compute_capability:
            parts.append("compute capability {}.{}".format(*self.compute_capability))
        if self.bandwidth_gb_s:
            parts.append(f"{self.bandwidth_gb_s:.0f} GB/s")
        if self.sharing:
            parts.append(f"shared with others ({self.sharing})")
        return ", ".join(parts)

    @property
    def caveat(self) -> str | None:
        """What somebody should know who believes figures that were measured on it."""
        if self.sharing is None:
            return None
        return (
            f"{self.product} is shared with other pods ({self.sharing}), which disturb what is measured and take "
            "memory; give a whole one to the tuning where figures have to be exact"
        )
