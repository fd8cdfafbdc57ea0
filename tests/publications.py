"""A publication, and specs of where it goes, for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from haqa_operator.api.git_output import GitOutput
from haqa_operator.api.manifests import Manifest
from haqa_operator.gitops import GitCredentials, Publication

CREDENTIALS = GitCredentials(secret="git", token="t0ken-of-the-secret")


def deployment(**container: Any) -> Manifest:
    engine = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.32.0",
        "command": ["vllm", "serve"],
        "args": ["/models/chat", "--max-num-seqs=64"],
        "env": [{"name": "VLLM_USE_V1", "value": "1"}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat-l40s", "namespace": "serving"},
        "spec": {
            "template": {
                "spec": {
                    "containers": [engine | container],
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S"},
                    "tolerations": [{"key": "gpu", "operator": "Exists"}],
                }
            }
        },
    }


SERVICE: Manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat-l40s"}, "spec": {"ports": []}}


def publication(key: str = "chat-l40s-1", **changes: Any) -> Publication:
    given = {
        "key": key,
        "pool": "l40s",
        "name": "chat-l40s",
        "manifests": (deployment(), SERVICE),
        "title": "chat on l40s: FP8-DYNAMIC, 1.62 times as fast",
        "summary": "FP8-DYNAMIC serves 1.62 times the baseline (1.55 to 1.70).",
        "evidence": "# chat on l40s\n\n| configuration | tokens/s |\n|---|---|\n| FP8-DYNAMIC | 1620 |\n",
        "made_at": datetime(2026, 11, 29, 12, 30, tzinfo=UTC),
    }
    return Publication.model_validate(given | changes)


def output(url: str = "https://git.example.com/team/clusters.git", **changes: Any) -> GitOutput:
    return GitOutput.model_validate({"url": url, "path": "apps/chat", "secretRef": {"name": "git"}} | changes)
