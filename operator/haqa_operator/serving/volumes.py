"""Where a pod finds its model, and the other folders that an engine without a writable root needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

MODEL_MOUNT = "/model"
CACHE_MOUNT = "/cache"


@dataclass(frozen=True)
class ClaimVolume:
    """The model lies in a PersistentVolumeClaim.

    Attributes:
        sub_path: Folder inside the claim, for an artifact the one of its digest.
    """

    claim: str
    sub_path: str | None = None


@dataclass(frozen=True)
class HostPathVolume:
    """The model lies in a folder of the node: for kind clusters, and for node-local model caches."""

    path: str


@dataclass(frozen=True)
class SecretVariable:
    """An environment variable whose value stays in a Secret."""

    name: str
    secret: str
    key: str


@dataclass(frozen=True)
class FetchedVolume:
    """An init container brings the model from an object store or a hub.

    Attributes:
        image: Of the init container.
        command: Fetches into `MODEL_MOUNT`, for example (python3, -m, some.fetch, s3://bucket/key, /model).
        secrets: Credentials, by reference.
        size_limit: Of the pod's copy, as a Kubernetes quantity; None = what the node has.
    """

    image: str
    command: tuple[str, ...]
    secrets: tuple[SecretVariable, ...] = ()
    size_limit: str | None = None


ModelVolume = ClaimVolume | HostPathVolume | FetchedVolume


def model_volume(volume: ModelVolume) -> Manifest:
    """The entry of `spec.volumes` for the model."""
    match volume:
        case ClaimVolume(claim):
            return {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        case HostPathVolume(path):
            return {"name": "model", "hostPath": {"path": path, "type": "Directory"}}
        case FetchedVolume():
            return {"name": "model", "emptyDir": {"sizeLimit": volume.size_limit} if volume.size_limit else {}}


def model_mount(volume: ModelVolume) -> Manifest:
    """The engine's view of it: never writable."""
    mount: Manifest = {"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True}
    if isinstance(volume, ClaimVolume) and volume.sub_path:
        mount["subPath"] = volume.sub_path
    return mount


def scratch_volumes(shm_gib: int) -> list[Manifest]:
    """What the engine writes: shared memory between its processes, caches, temporary files."""
    return [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shm_gib}Gi"}},
        {"name": "cache", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]


def scratch_mounts() -> list[Manifest]:
    return [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108, a mount of the pod's own
        {"name": "cache", "mountPath": CACHE_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108, a mount of the pod's own
    ]


def scratch_env() -> list[Manifest]:
    """HOME and the name behind a user id that no image knows; torch and vLLM keep their caches by both."""
    return [
        {"name": "HOME", "value": CACHE_MOUNT},
        {"name": "USER", "value": "haqa"},
        {"name": "HF_HOME", "value": f"{CACHE_MOUNT}/huggingface"},
    ]


def secret_env(secrets: tuple[SecretVariable, ...]) -> list[Manifest]:
    return [
        {"name": secret.name, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}}
        for secret in secrets
    ]
