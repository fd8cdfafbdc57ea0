"""The file that describes the nodes of the test cluster; needs no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.cluster.node_specs import Machine, NodeSpec, machine_features, read_nodes
from tests.cluster.rehearsal import rig


def test_features_of_the_machine_have_the_names_of_node_feature_discovery() -> None:
    assert machine_features("flags\t\t: fpu avx2 avx512_vnni amx_tile\n") == ["AVX2", "AVX512VNNI", "AMXTILE"]


def test_machine_without_known_flags_has_no_features() -> None:
    assert machine_features("Features : fp asimd\n") == []


def test_listed_features_do_not_depend_on_the_machine() -> None:
    spec = NodeSpec(name="avx2", labels={"haqa.dev/pool": "avx2"}, cpuFeatures=["AVX2"])
    assert spec.all_labels("flags : avx512f") == {
        "feature.node.kubernetes.io/cpu-cpuid.AVX2": "true",
        "haqa.dev/pool": "avx2",
    }


MACHINE = Machine(cpus=frozenset({0, 1, 2, 3}), memory_mib=16 * 1024)


def test_a_node_with_a_part_of_the_machine_keeps_the_rest_back() -> None:
    assert NodeSpec(name="full", cpus=[0, 2], memoryGib=10).kubelet_settings(MACHINE) == {
        "cpuManagerPolicy": "static",
        "cpuManagerPolicyOptions": {"strict-cpu-reservation": "true"},
        "reservedSystemCPUs": "1,3",
        "systemReserved": {"memory": "6144Mi"},
    }


def test_a_node_without_a_part_of_its_own_offers_the_whole_machine() -> None:
    assert NodeSpec(name="full").kubelet_settings(MACHINE) == {"cpuManagerPolicy": "none"}


def test_a_node_that_pretends_to_have_more_memory_shows_it_to_its_kubelet_alone() -> None:
    machine = "MemTotal:       24609660 kB\nMemFree:         1234 kB\n"
    assert NodeSpec(name="full").meminfo(machine) is None
    pretended = NodeSpec(name="full", pretendedMemoryGib=1024).meminfo(machine)
    assert pretended == "MemTotal: 1073741824 kB\nMemFree:         1234 kB\n"


def test_the_rehearsal_s_nodes_can_be_read() -> None:
    nodes = {node.name: node for node in read_nodes(rig.NODES)}
    assert nodes["mi300x"].resources == {"amd.com/gpu": "1"}
    assert [nodes[name].gpus for name in ("l40s", "h100", "h100-single")] == [4, 2, 1]
    assert nodes["h100-single"].labels["nvidia.com/gpu.product"] == nodes["h100"].labels["nvidia.com/gpu.product"]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"cpus": [0, 4]}, r"cpus \[4\] are none of"),
        ({"cpus": [0, 1, 2, 3]}, "are all of this machine's"),
        ({"memoryGib": 17}, "this machine has 16.0 GiB"),
    ],
)
def test_more_than_the_machine_has_is_refused(part: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        NodeSpec(name="full", **part).kubelet_settings(MACHINE)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nodes: []", "nodes"),
        ("nodes: [{name: Full}]", "name"),
        ("nodes: [{name: a-name-that-is-too-long}]", "name"),
        ("nodes: [{name: full, gpus: -1}]", "gpus"),
        ("nodes: [{name: full, gpu: 1}]", "gpu"),
        ("nodes: [{name: full, cpus: []}]", "cpus"),
    ],
)
def test_error_names_the_wrong_field(tmp_path: Path, text: str, field: str) -> None:
    (tmp_path / "nodes.yaml").write_text(text)
    with pytest.raises(ValidationError, match=field):
        read_nodes(tmp_path / "nodes.yaml")


def test_two_nodes_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "nodes.yaml").write_text("nodes: [{name: full}, {name: full}]")
    with pytest.raises(ValueError, match="have to differ, got full, full"):
        read_nodes(tmp_path / "nodes.yaml")
