"""Writes a folder as a container image of one layer, in the archive format of `docker save`, with no container tool."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

_CREATED = "2024-01-01T00:00:00Z"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(reference: str, root: Path, archive: Path, entrypoint: Sequence[str] = ()) -> None:
    with tempfile.NamedTemporaryFile(dir=archive.parent, suffix=".layer") as layer:
        with tarfile.open(fileobj=layer, mode="w") as tar:
            for entry in sorted(root.iterdir()):
                tar.add(entry, arcname=entry.name)
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        config = json.dumps(_config(digest, entrypoint)).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
        with tarfile.open(archive, "w") as tar:
            _add(tar, "manifest.json", json.dumps(manifest).encode())
            _add(tar, config_name, config)
            tar.add(layer.name, arcname=f"{digest}/layer.tar")


def _config(layer_digest: str, entrypoint: Sequence[str]) -> dict[str, object]:
    return {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "created": _CREATED,
        "config": {"Entrypoint": list(entrypoint) or None, "Env": [f"PATH={_PATH}"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created": _CREATED, "created_by": "haqa tests/cluster"}],
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
