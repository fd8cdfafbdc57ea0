"""Nodes and pods that kwok plays: nodes with GPUs, models that are looked at at once, trials that run for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster.kubectl import Manifest
from tests.model_headers import facts

from haqa_contract import FETCH_TRIAL, ArtifactReport, TrialReport

_STAGES = Path(__file__).parent / "stages.yaml.in"
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
}


def node(name: str, **labels: str) -> Manifest:
    """With four L40S, as GPU feature discovery labels it."""
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "4", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": "amd64",
                "nvidia.com/gpu.product": "NVIDIA-L40S",
                "nvidia.com/gpu.count": "4",
                "nvidia.com/gpu.memory": "46068",
                "nvidia.com/gpu.compute.major": "8",
                "nvidia.com/gpu.compute.minor": "9",
                **labels,
            },
        },
        # As a kubelet announces hundreds of images, which make most of a node.
        "status": {"allocatable": room, "capacity": room, "images": [_image(name, one) for one in range(40)]},
    }


def write_stages(file: Path) -> None:
    """What becomes of pods, as kwok's configuration."""
    looked = TrialReport(trial=FETCH_TRIAL, artifact=_artifact(facts(_CONFIG)))
    made = TrialReport(trial="any", artifact=_artifact(None))
    text = _STAGES.read_text().replace("@LOOKED@", _quoted(looked)).replace("@MADE@", _quoted(made))
    file.write_text(text)


def _image(node: str, number: int) -> dict[str, Any]:
    name = f"registry.example/team/image-{number:02}"
    return {"names": [f"{name}@sha256:{number:064x}", f"{name}:v{number}"], "sizeBytes": 10**9}


def _artifact(found: Any) -> ArtifactReport:
    return ArtifactReport(
        digest="0" * 64,
        path="/models/model",
        size_bytes=16 * 10**9,
        reused=False,
        model_digest="sha256-model",
        facts=found,
    )


def _quoted(report: TrialReport) -> str:
    """Inside single quotes of YAML, and nothing that a Go template looks into."""
    text = report.model_dump_json(exclude_none=True)
    assert "{{" not in text
    return text.replace("'", "''")
