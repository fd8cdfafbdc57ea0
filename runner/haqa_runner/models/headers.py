"""Weight files of which only the header is there: enough to know what is in them, without bringing them.

The file has its true size, and a hole where the numbers would be, so that it is read like any other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from haqa_runner.models.checkpoint import LARGEST_HEADER_BYTES

_USUAL_BYTES = 2**20
"""Most headers are shorter."""


def leave_header(target: Path, size_bytes: int, beginning: Callable[[int], bytes]) -> None:
    """Writes a safetensors file's header to `target`.

    Args:
        size_bytes: Of the file.
        beginning: Its first bytes, so many or, where it is shorter, all.
    """
    found = beginning(min(size_bytes, _USUAL_BYTES)) if size_bytes else b""
    if len(found) >= struct.calcsize("<Q"):
        (length,) = struct.unpack_from("<Q", found)
        end = struct.calcsize("<Q") + length
        # Anything longer is no header, and whoever reads the file will say so.
        if len(found) < end <= min(size_bytes, LARGEST_HEADER_BYTES):
            found = beginning(end)
    target.write_bytes(found)
    with target.open("r+b") as stream:
        stream.truncate(size_bytes)


def link_files(paths: Iterable[Path], place: Path) -> None:
    """Puts files into `place` as they are, beside the headers there."""
    for path in paths:
        (place / path.name).symlink_to(path.absolute())
