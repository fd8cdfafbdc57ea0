"""What each node of the test cluster pretends to be: labels, fake GPUs, its part of the machine; from a YAML file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

_NFD = "feature.node.kubernetes.io/"
_NFD_NAMES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512bw": "AVX512BW",
    "avx512vl": "AVX512VL",
    "avx512dq": "AVX512DQ",
    "avx512_vnni": "AVX512VNNI",
    "avx512_bf16": "AVX512BF16",
    "avx512_fp16": "AVX512FP16",
    "amx_tile": "AMXTILE",
    "amx_bf16": "AMXBF16",
    "amx_int8": "AMXINT8",
}
"""Flags of /proc/cpuinfo by the names that Node Feature Discovery gives them."""


@dataclass(frozen=True)
class Machine:
    """What its nodes share."""

    cpus: frozenset[int]
    memory_mib: int

    @classmethod
    def this(cls) -> Machine:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(frozenset(range(os.cpu_count() or 1)), pages // 2**20)


class NodeSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # Part of the path of a socket, which may have 107 characters in all.
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$")]
    labels: dict[str, str] = {}
    cpuFeatures: Literal["machine", "machine-without-amx"] | list[str] = []
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    memoryGib: Annotated[int, Field(ge=1)] | None = None
    pretendedMemoryGib: Annotated[int, Field(ge=1)] | None = None
    resources: dict[str, str] = {}

    def kubelet_settings(self, machine: Machine) -> dict[str, Any]:
        """How the kubelet keeps its pods to the node's own part of the machine, and offers no more.

        Of static CPU management only this is used: with strict reservation every container is kept off the reserved
        cores (kubernetes.io, "Control CPU Management Policies on the Node").

        Raises:
            ValueError: the machine has less than the node is to have, or the node would have all cores.
        """
        settings: dict[str, Any] = {"cpuManagerPolicy": "none"}
        if self.cpus is not None:
            settings = {
                "cpuManagerPolicy": "static",
                "cpuManagerPolicyOptions": {"strict-cpu-reservation": "true"},
                "reservedSystemCPUs": ",".join(map(str, self._others(machine))),
            }
        if self.memoryGib is not None:
            rest_mib = machine.memory_mib - 1024 * self.memoryGib
            if rest_mib < 0:
                have = machine.memory_mib / 1024
                raise ValueError(f"node {self.name}: memoryGib {self.memoryGib}: this machine has {have:.1f} GiB")
            settings["systemReserved"] = {"memory": f"{rest_mib}Mi"}
        return settings

    def meminfo(self, text: str) -> str | None:
        """What its kubelet sees of /proc/meminfo, of which `text` is the machine's; None: the machine's own."""
        if self.pretendedMemoryGib is None:
            return None
        return re.sub(r"(?m)^MemTotal:.*$", f"MemTotal: {self.pretendedMemoryGib * 2**20} kB", text)

    def _others(self, machine: Machine) -> list[int]:
        own, all_cpus = set(self.cpus or ()), sorted(machine.cpus)
        if missing := sorted(own - machine.cpus):
            raise ValueError(f"node {self.name}: cpus {missing} are none of this machine's {all_cpus}")
        others = [cpu for cpu in all_cpus if cpu not in own]
        if not others:
            raise ValueError(f"node {self.name}: cpus {sorted(own)} are all of this machine's; leave the field out")
        return others

    def all_labels(self, cpuinfo: str) -> dict[str, str]:
        """The node's own labels and those of its CPU, where `cpuinfo` is the text of /proc/cpuinfo."""
        return {f"{_NFD}cpu-cpuid.{name}": "true" for name in self._features(cpuinfo)} | self.labels

    def _features(self, cpuinfo: str) -> list[str]:
        if isinstance(self.cpuFeatures, list):
            return self.cpuFeatures
        without = "AMX" if self.cpuFeatures == "machine-without-amx" else " "
        return [name for name in machine_features(cpuinfo) if not name.startswith(without)]


class _NodesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    nodes: Annotated[list[NodeSpec], Field(min_length=1)]


def machine_features(cpuinfo: str) -> list[str]:
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), ":")
    return [_NFD_NAMES[flag] for flag in line.partition(":")[2].split() if flag in _NFD_NAMES]


def read_nodes(path: Path) -> list[NodeSpec]:
    nodes = _NodesFile.model_validate(yaml.safe_load(path.read_text())).nodes
    names = [node.name for node in nodes]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: names of nodes have to differ, got {', '.join(names)}")
    return nodes


def configured_nodes() -> list[NodeSpec]:
    return read_nodes(Path(os.environ.get("HAQA_CLUSTER_NODES", Path(__file__).with_name("nodes.yaml"))))
