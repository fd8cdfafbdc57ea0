"""Where a pod finds its model, and the other folders that an engine without a writable root needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from haqa_operator.api.manifests import Manifest

TRIAL_MOUNT = "/haqa"
"""The trial's own folder."""
MODEL_MOUNT = f"{TRIAL_MOUNT}/model"
"""In a trial a link, in the winner's Deployment a mount: the engine gets the same path."""
STORE_MOUNT = "/store"
CLAIM_MOUNT = "/models"
"""The claim of a pvc:// model."""
CACHE_MOUNT = "/cache"
ADAPTERS_MOUNT = "/adapters"
"""A folder for each LoRA adapter: in a trial `quantize` fills it, in the winner's Deployment an init container."""


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
class ExtraVolume:
    """A folder that an installation gives to its pods, for example an environment that lies on every node.

    Attributes:
        source: As in `spec.volumes`, without the name: {"hostPath": {"path": "/opt/vllm"}}.
    """

    name: str
    mount_path: str
    source: Manifest
    read_only: bool = True

    @property
    def volume(self) -> Manifest:
        return {"name": self.name, **self.source}

    @property
    def mount(self) -> Manifest:
        return {"name": self.name, "mountPath": self.mount_path, "readOnly": self.read_only}


@dataclass(frozen=True)
class Fetching:
    """An init container that brings the model and leaves the link to it.

    Attributes:
        command: Its whole command, for example (python3, -m, haqa_runner, fetch, …).
        env: Variables, for example AWS_ENDPOINT_URL.
        secrets: Credentials, by reference.
        extra: Folders that it gets beside its own.
    """

    image: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[SecretVariable, ...] = ()
    extra: tuple[ExtraVolume, ...] = ()


@dataclass(frozen=True)
class LinkedVolume:
    """The model lies wherever a link in the pod's own folder points: in the store or in the claim of a pvc:// model.

    Attributes:
        store: Claim of the artifact store; None = a folder of the pod's own, for what comes from a bucket or a hub.
        model_claim: Claim of a pvc:// model.
        target: Where an init container lets the link point; None = somebody else does, in a trial `quantize`.
        fetching: Brings the model first, and sets the link itself.
    """

    store: str | None = None
    model_claim: str | None = None
    target: str | None = None
    fetching: Fetching | None = None


@dataclass(frozen=True)
class AdaptersVolume:
    """A folder with the model's LoRA adapters, one folder each.

    Attributes:
        fetching: Brings them; None = somebody else does, in a trial `quantize`.
        claim: In which some of them lie, for `fetching`.
        lies_in: They lie in a claim as they are, and nobody has to bring them.
    """

    fetching: Fetching | None = None
    claim: str | None = None
    lies_in: ClaimVolume | None = None

    @property
    def volumes(self) -> list[Manifest]:
        if self.lies_in is not None:
            there = {"claimName": self.lies_in.claim, "readOnly": True}
            return [{"name": "adapters", "persistentVolumeClaim": there}]
        own: list[Manifest] = [{"name": "adapters", "emptyDir": {}}]
        if self.fetching is None or self.claim is None:
            return own
        return [*own, {"name": "models", "persistentVolumeClaim": {"claimName": self.claim, "readOnly": True}}]

    def mounts(self, *, writable: bool = False) -> list[Manifest]:
        mount: Manifest = {"name": "adapters", "mountPath": ADAPTERS_MOUNT, "readOnly": not writable}
        if self.lies_in is not None and self.lies_in.sub_path:
            mount["subPath"] = self.lies_in.sub_path
        return [mount]

    def fetching_mounts(self) -> list[Manifest]:
        """Of the container that brings them."""
        claim = [{"name": "models", "mountPath": CLAIM_MOUNT, "readOnly": True}] if self.claim else []
        return [*self.mounts(writable=True), *claim]


ModelVolume = ClaimVolume | HostPathVolume | LinkedVolume


def served_volume(path: str, *, store: str | None, model_claim: str | None = None) -> ModelVolume | None:
    """The volume from which a Deployment serves what a trial's link pointed at.

    An artifact is a folder of its claim and is mounted alone. Models are linked, since the files of a hub's cache are
    links themselves and lead out of their folder.

    Args:
        path: `ArtifactReport.path`, as the trial's pod saw it.

    Returns:
        None for a folder that only the trial's own pod had: the model has to be fetched again.
    """
    folder = PurePosixPath(path)
    if store is not None and folder.is_relative_to(f"{STORE_MOUNT}/artifacts"):
        return ClaimVolume(store, str(folder.relative_to(STORE_MOUNT)))
    if store is not None and folder.is_relative_to(STORE_MOUNT):
        return LinkedVolume(store=store, target=path)
    if model_claim is not None and folder.is_relative_to(CLAIM_MOUNT):
        inside = str(folder.relative_to(CLAIM_MOUNT))
        return ClaimVolume(model_claim, None if inside == "." else inside)
    return None


def artifact_volume(claim: str, digest: str) -> ClaimVolume:
    """A quantized model in the store's claim, by the layout of `haqa_runner.store.local`."""
    return ClaimVolume(claim, f"artifacts/{digest}/model")


def model_volumes(volume: ModelVolume) -> list[Manifest]:
    """The entries of `spec.volumes` for the model."""
    match volume:
        case ClaimVolume(claim):
            return [{"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}]
        case HostPathVolume(path):
            return [{"name": "model", "hostPath": {"path": path, "type": "Directory"}}]
        case LinkedVolume():
            return _linked_volumes(volume)


def model_mounts(volume: ModelVolume, *, writable: bool = False) -> list[Manifest]:
    """A container's view of the model, for the engine never writable."""
    if isinstance(volume, LinkedVolume):
        mounts = [("trial", TRIAL_MOUNT, not writable), ("store", STORE_MOUNT, not writable)]
        if volume.model_claim:
            mounts.append(("models", CLAIM_MOUNT, True))
        return [{"name": name, "mountPath": path, "readOnly": read_only} for name, path, read_only in mounts]
    mount: Manifest = {"name": "model", "mountPath": MODEL_MOUNT, "readOnly": not writable}
    if isinstance(volume, ClaimVolume) and volume.sub_path:
        mount["subPath"] = volume.sub_path
    return [mount]


def _linked_volumes(volume: LinkedVolume) -> list[Manifest]:
    store: Manifest = {"persistentVolumeClaim": {"claimName": volume.store}} if volume.store else {"emptyDir": {}}
    volumes: list[Manifest] = [{"name": "trial", "emptyDir": {}}, {"name": "store", **store}]
    if volume.model_claim:
        claim = {"claimName": volume.model_claim, "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    return volumes


class Scratch(StrEnum):
    """Whose: engine and runner share nothing that either of them can write to, but for the folders of the trial.

    What a tuning has the engine run is not to be run by the container that holds Secrets and writes the report.
    """

    ENGINE = ""
    RUNNER = "runner-"


def scratch_volumes(whose: Scratch, shm_gib: int) -> list[Manifest]:
    """What a container writes: shared memory between its processes, caches, temporary files."""
    return [
        {"name": f"{whose}shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shm_gib}Gi"}},
        {"name": f"{whose}cache", "emptyDir": {}},
        {"name": f"{whose}tmp", "emptyDir": {}},
    ]


def scratch_mounts(whose: Scratch) -> list[Manifest]:
    return [
        {"name": f"{whose}shm", "mountPath": "/dev/shm"},  # noqa: S108, a mount of the pod's own
        {"name": f"{whose}cache", "mountPath": CACHE_MOUNT},
        {"name": f"{whose}tmp", "mountPath": "/tmp"},  # noqa: S108, a mount of the pod's own
    ]


def scratch_env(whose: Scratch) -> list[Manifest]:
    """HOME and the name behind a user id that no image knows; torch and vLLM keep their caches by both.

    The runner, whose working folder may be one that it writes to, imports nothing from there.
    """
    own = [
        {"name": "HOME", "value": CACHE_MOUNT},
        {"name": "USER", "value": "haqa"},
        {"name": "HF_HOME", "value": f"{CACHE_MOUNT}/huggingface"},
    ]
    isolated = [{"name": "PYTHONSAFEPATH", "value": "1"}, {"name": "PYTHONNOUSERSITE", "value": "1"}]
    return [*own, *isolated] if whose is Scratch.RUNNER else own


def secret_env(secrets: tuple[SecretVariable, ...]) -> list[Manifest]:
    return [
        {"name": secret.name, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}}
        for secret in secrets
    ]
