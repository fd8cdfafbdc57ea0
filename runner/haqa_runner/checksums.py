"""Hashes of files, remembered by size and modification time so that gigabytes are read once and not every trial.

The memory is a cache: it may be lost, and is not written where it cannot be (a read-only mount). A file whose content
changed without its size, its times or its inode changing is not noticed; ask for `fresh` where that matters.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from haqa_runner.durable import write_atomically

log = logging.getLogger(__name__)

_CHUNK_BYTES = 4 * 2**20


class ChecksumMemory:
    """sha256 of the files under one folder, remembered in `path` (JSON)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._changed = False

    def sha256(self, file: Path, *, fresh: bool = False, counted: Callable[[int], None] | None = None) -> str:
        """Hex digest of the file's content; `counted` is told how many bytes were dealt with."""
        found = file.stat()
        identity = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        known = self._known.get(str(file))
        if known is not None and known[:-1] == identity and not fresh:
            if counted is not None:
                counted(found.st_size)
            return str(known[-1])
        digest = sha256_of(file, counted)
        self._known[str(file)] = [*identity, digest]
        self._changed = True
        return digest

    def forget_others(self, files: Iterable[Path]) -> None:
        """Drops what is remembered of files that are not among `files`."""
        keep = {str(file) for file in files}
        for name in [name for name in self._known if name not in keep]:
            del self._known[name]
            self._changed = True

    def save(self) -> None:
        """Writes what was learnt, if anything and if possible."""
        if not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._known).encode())
        except OSError as error:
            log.warning("checksums are not remembered in %s: %s", self._path, error)
        self._changed = False


def sha256_of(file: Path, counted: Callable[[int], None] | None = None) -> str:
    """Hex digest of the file's content."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            if counted is not None:
                counted(len(chunk))
    return digest.hexdigest()


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: entry for name, entry in content.items() if isinstance(entry, list) and len(entry) == 5}
