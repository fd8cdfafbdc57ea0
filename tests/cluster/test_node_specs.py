"""The file that describes the nodes of the test cluster; needs no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.cluster.node_specs import NodeSpec, machine_features, read_nodes


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


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nodes: []", "nodes"),
        ("nodes: [{name: Full}]", "name"),
        ("nodes: [{name: a-name-that-is-too-long}]", "name"),
        ("nodes: [{name: full, gpus: -1}]", "gpus"),
        ("nodes: [{name: full, gpu: 1}]", "gpu"),
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
