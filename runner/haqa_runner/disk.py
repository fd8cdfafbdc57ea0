"""Disk space: asked for before work begins, and recognised when it runs out anyway."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure

RESERVE_BYTES = 8 * 2**20
"""What stays free besides: metadata, logs and reports of everyone else on that file system."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "storagefull", "(os error 28)")
"""Native writers (safetensors, the hub's downloader) lose the number and keep the text."""


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write under `path`, which need not exist yet."""
    there = path
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def require_space(path: Path, needed_bytes: int, purpose: str, reason: FailureReason) -> None:
    """Raises TrialFailure if `purpose` needs more than `path`'s file system has, the reserve kept."""
    free = free_bytes(path)
    if needed_bytes + RESERVE_BYTES > free:
        raise disk_full(path, needed_bytes, purpose, reason)


def disk_full(path: Path, needed_bytes: int | None, purpose: str, reason: FailureReason) -> TrialFailure:
    """The sentence about a full disk, whether it was foreseen or met; None if nobody knows how much was needed."""
    needed = "more" if needed_bytes is None else f"about {size_text(needed_bytes)} ({needed_bytes} bytes)"
    free = free_bytes(path)
    return TrialFailure(
        reason,
        f"{path} has too little free space for {purpose}: {needed} needed, {size_text(free)} ({free} bytes) free; "
        "free some, or point it to a larger volume",
    )


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind `error` or behind what it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(words in str(error).lower() for words in _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def size_text(count: float) -> str:
    """Bytes for a person: `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
