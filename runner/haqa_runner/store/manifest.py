"""The list of an artifact's files with their checksums: what makes it verifiable, and readable for a person."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from haqa_runner.checksums import sha256_of
from haqa_runner.durable import sync_file, sync_folder
from haqa_runner.store.artifacts import ArtifactKey

MANIFEST = "manifest.json"
MODEL = "model"

_READABLE = 0o644
"""Some writers leave files that only their own user may read; the engine often runs as another one."""


class FileEntry(BaseModel):
    model_config = ConfigDict(frozen=True)

    sha256: str
    size_bytes: int


class Manifest(BaseModel):
    """What an artifact consists of, and what it was made from."""

    model_config = ConfigDict(frozen=True)

    digest: str
    key: ArtifactKey
    files: dict[str, FileEntry]
    created: float
    created_by: str

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files.values())

    @classmethod
    def of(cls, key: ArtifactKey, model: Path, counted: Callable[[int], None]) -> Manifest:
        """Checksums every file under `model`, makes it readable to all and forces it to the disk.

        Raises:
            ValueError: There is nothing, or something that is no regular file.
        """
        files = {}
        for path in sorted(model.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            if path.is_symlink() or not path.is_file():
                raise ValueError(f"{path} is no regular file; an artifact has to stand by itself")
            path.chmod(_READABLE)
            sync_file(path)
            files[path.relative_to(model).as_posix()] = FileEntry(
                sha256=sha256_of(path, counted), size_bytes=path.stat().st_size
            )
        if not files:
            raise ValueError(f"{model} is empty; there is nothing to publish")
        for folder, _, _ in os.walk(model, topdown=False):
            sync_folder(Path(folder))
        return cls(
            digest=key.digest,
            key=key,
            files=files,
            created=time.time(),
            created_by=f"process {os.getpid()} on {socket.gethostname()}",
        )

    @classmethod
    def read(cls, content: bytes, digest: str) -> Manifest:
        """Parses a manifest. Raises ValueError if it is damaged or another artifact's."""
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"its manifest is damaged ({error.error_count()} errors)") from error
        if manifest.digest != digest or manifest.key.digest != digest:
            raise ValueError(f"its manifest belongs to {manifest.digest[:12]}")
        if any(name.startswith("/") or ".." in Path(name).parts for name in manifest.files):
            raise ValueError("its manifest names files outside the artifact")
        return manifest

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    def flaw(self, model: Path, sha256: Callable[[Path], str]) -> str | None:
        """What is wrong with the files under `model`, in half a sentence; None if nothing is.

        Sizes first: they cost nothing, and tell most damage.
        """
        for name, entry in self.files.items():
            try:
                size = (model / name).stat().st_size
            except OSError as error:
                return f"{name} cannot be read ({error.strerror})"
            if size != entry.size_bytes:
                return f"{name} has {size} bytes instead of {entry.size_bytes}"
        for name, entry in self.files.items():
            if sha256(model / name) != entry.sha256:
                return f"{name} has another checksum than when it was published"
        return None
