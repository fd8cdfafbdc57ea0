"""What each node of the test cluster pretends to be: its labels and its fake GPUs, read from a small YAML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

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
    "amx_tile": "AMXTILE",
    "amx_bf16": "AMXBF16",
    "amx_int8": "AMXINT8",
}
"""Flags of /proc/cpuinfo by the names that Node Feature Discovery gives them."""


class NodeSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # Part of the path of a socket, which may have 107 characters in all.
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$")]
    labels: dict[str, str] = {}
    cpuFeatures: Literal["machine"] | list[str] = []
    gpus: Annotated[int, Field(ge=0, le=64)] = 0

    def all_labels(self, cpuinfo: str) -> dict[str, str]:
        """The node's own labels and those of its CPU, where `cpuinfo` is the text of /proc/cpuinfo."""
        features = machine_features(cpuinfo) if self.cpuFeatures == "machine" else self.cpuFeatures
        return {f"{_NFD}cpu-cpuid.{name}": "true" for name in features} | self.labels


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
