"""Detection from what a machine's files and tools say; the machine is passed in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import HardwareError, Vendor
from haqa_operator.hardware.this_machine import NVIDIA_SMI, LinuxMachine, detect

CPUINFO = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu avx2 avx512f avx512bw avx512vl avx512dq avx512_vnni

processor\t: 1
model name\t: another
"""
MEMINFO = "MemTotal:       65536000 kB\nMemFree: 1 kB\n"
L40S = "{}, GPU-{}aaa, NVIDIA L40S, 46068, 8.9"
A100 = "{}, GPU-{}bbb, NVIDIA A100-SXM4-80GB, 81920, 8.0"


@dataclass
class FakeMachine:
    files: dict[str, str] = field(default_factory=lambda: {"/proc/cpuinfo": CPUINFO, "/proc/meminfo": MEMINFO})
    gpus: tuple[str, ...] | None = None
    cores: int = 16

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def output(self, command: Sequence[str]) -> str | None:
        assert tuple(command) == NVIDIA_SMI
        return None if self.gpus is None else "\n".join(self.gpus) + "\n"

    def usable_cores(self) -> int:
        return self.cores

    def architecture(self) -> str:
        return "x86_64"


def machine(files: dict[str, str] | None = None, gpus: tuple[str, ...] | None = None, cores: int = 16) -> FakeMachine:
    paths = {"/proc/cpuinfo": CPUINFO, "/proc/meminfo": MEMINFO, **(files or {})}
    return FakeMachine(paths, gpus, cores)


def test_machine_without_nvidia_smi_is_a_cpu_machine() -> None:
    accelerator = detect({}, None, machine=machine())
    assert accelerator.vendor is Vendor.CPU
    assert accelerator.product == "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"
    assert accelerator.isa == "avx512_vnni"
    assert accelerator.memory_gib == 62.5
    assert accelerator.cores == 16


def test_cap_of_the_pool_makes_another_node_type() -> None:
    accelerator = detect({"ONEDNN_MAX_CPU_ISA": "AVX2"}, None, machine=machine())
    assert (accelerator.isa, accelerator.onednn_cap) == ("avx512_vnni", "avx2")


def test_cgroup_limits_count_where_they_are_narrower() -> None:
    limited = machine(
        {
            "/proc/self/cgroup": "0::/kubepods/pod1\n",
            "/sys/fs/cgroup/kubepods/pod1/memory.max": "max\n",
            "/sys/fs/cgroup/kubepods/memory.max": f"{8 * 2**30}\n",
            "/sys/fs/cgroup/kubepods/pod1/cpu.max": "250000 100000\n",
            "/sys/fs/cgroup/cpu.max": "max 100000\n",
        }
    )
    accelerator = detect({}, None, machine=limited)
    assert accelerator.memory_gib == 8
    assert accelerator.cores == 2


def test_cgroup_of_the_first_version_is_read_too() -> None:
    limited = machine(
        {
            "/proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n",
            "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{4 * 2**30}\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
            "/sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        }
    )
    accelerator = detect({}, None, machine=limited)
    assert accelerator.memory_gib == 4
    assert accelerator.cores == 1, "half a core still runs one thread"


def test_gpu_comes_with_what_the_catalogue_knows() -> None:
    accelerator = detect({}, None, machine=machine(gpus=(L40S.format(0, 0),)))
    assert accelerator.vendor is Vendor.NVIDIA
    assert accelerator.product == "NVIDIA-L40S"
    assert accelerator.memory_gib == pytest.approx(46068 / 1024)
    assert accelerator.compute_capability == (8, 9)
    assert accelerator.bandwidth_gb_s == 864


def test_replica_takes_as_many_gpus_as_it_asks_for() -> None:
    gpus = (L40S.format(0, 0), L40S.format(1, 1))
    assert detect({}, None, gpus_per_replica=2, machine=machine(gpus=gpus)).count == 2
    with pytest.raises(HardwareError, match="gpusPerReplica 3: this machine shows 2 GPU"):
        detect({}, None, gpus_per_replica=3, machine=machine(gpus=gpus))


def test_gpus_of_two_kinds_are_an_error_only_if_a_replica_needs_both() -> None:
    gpus = (L40S.format(0, 0), A100.format(1, 1))
    assert detect({}, None, machine=machine(gpus=gpus)).product == "NVIDIA-L40S"
    with pytest.raises(HardwareError, match=r"the GPUs differ.*CUDA_VISIBLE_DEVICES"):
        detect({}, None, gpus_per_replica=2, machine=machine(gpus=gpus))


@pytest.mark.parametrize(
    ("visible", "product"),
    [
        ("1", "NVIDIA-A100-SXM4-80GB"),
        ("GPU-1bbb", "NVIDIA-A100-SXM4-80GB"),
        ("0,1", "NVIDIA-L40S"),
        ("", None),
        ("-1", None),
    ],
)
def test_pool_sees_the_gpus_that_cuda_shows_it(visible: str, product: str | None) -> None:
    gpus = (L40S.format(0, 0), A100.format(1, 1))
    accelerator = detect({"CUDA_VISIBLE_DEVICES": visible}, None, machine=machine(gpus=gpus))
    assert accelerator.is_cpu if product is None else accelerator.product == product


@pytest.mark.parametrize(("name", "memory_gib"), [("NVIDIA GB10", 119.7), ("NVIDIA X9000", None)])
def test_gpu_with_unified_memory_has_the_figure_of_the_catalogue_if_any(name: str, memory_gib: float | None) -> None:
    accelerator = detect({}, None, machine=machine(gpus=(f"0, GPU-0, {name}, [N/A], 12.1",)))
    assert accelerator.memory_gib == memory_gib
    assert accelerator.compute_capability == (12, 1)


def test_override_has_the_last_word() -> None:
    override = HardwareOverride(vendor="cpu", memory_gib=10, isa="avx2")
    accelerator = detect({}, override, machine=machine(gpus=(L40S.format(0, 0),)))
    assert accelerator.is_cpu
    assert (accelerator.memory_gib, accelerator.isa) == (10, "avx2")


def test_overridden_product_brings_its_own_figures() -> None:
    override = HardwareOverride(product="NVIDIA-H100-NVL")
    accelerator = detect({}, override, machine=machine(gpus=(L40S.format(0, 0),)))
    assert accelerator.compute_capability == (9, 0)
    assert accelerator.memory_gib == 93.6
    assert accelerator.bandwidth_gb_s == 3938


def test_real_machine_has_memory_and_cores() -> None:
    accelerator = detect({}, HardwareOverride(vendor="cpu"), machine=LinuxMachine())
    assert accelerator.memory_gib
    assert accelerator.cores
    assert accelerator.describe()


def test_tool_that_does_not_exist_fails_or_hangs_says_nothing() -> None:
    assert LinuxMachine().output(("no-such-tool-here",)) is None
    assert LinuxMachine().output(("false",)) is None
    assert LinuxMachine(command_timeout_s=0.05).output(("sleep", "5")) is None
    assert LinuxMachine().read("/no/such/file") is None
