"""The real `haqa_runner` on a node that pretends to have GPUs: `python3 -m tests.cluster.rehearsal.runner STEP …`.

Fetching, looking at the model, recipes, the store, supervision, gates, windows and reports are its own. Played are
llm-compressor (`quantizing`), the engine's traffic (`load`), and a machine large enough for the model.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

from tests.cluster.rehearsal import quantizing

_CHUNK_BYTES = 2**20
HOST_MEMORY_BYTES = 2**40
"""Of a node with such GPUs."""
VOLUME_BYTES = 2**42
"""Free on the claim."""


def sha256_of(file: Path, counted: Callable[[int], None] | None = None) -> str:
    """Of the data and the size; holes are not read, which would take minutes for nothing."""
    digest = hashlib.sha256(str(file.stat().st_size).encode())
    with file.open("rb") as stream:
        place, end = 0, file.stat().st_size
        while place < end:
            try:
                place = os.lseek(stream.fileno(), place, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            stream.seek(place)
            chunk = stream.read(min(_CHUNK_BYTES, end - place))
            digest.update(chunk)
            place += len(chunk)
    if counted is not None:
        counted(file.stat().st_size)
    return digest.hexdigest()


def play() -> None:
    """Puts the rehearsal's parts in the place of the runner's."""
    import haqa_runner.checksums
    import haqa_runner.disk

    haqa_runner.checksums.sha256_of = sha256_of
    haqa_runner.disk.free_bytes = lambda path: VOLUME_BYTES

    # Only now: modules that take these functions by name take the ones above.
    from tests.cluster.rehearsal import load, reference

    from haqa_runner.quantize import step

    vars(step).update(memory_limit_bytes=lambda: HOST_MEMORY_BYTES, tool_versions=lambda algorithm: {"rehearsal": "1"})
    replace("haqa_runner.quantize.warm", compressor=SimpleNamespace(Job=quantizing.job, compress=quantizing.compress))
    replace("haqa_runner.measure.step", run=load.run)
    replace("haqa_runner.verify.step", run=load.run)
    replace("haqa_runner.reference.step", run=reference.run)


def replace(name: str, **content: object) -> None:
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(content)


if __name__ == "__main__":
    play()
    from haqa_runner.__main__ import main

    sys.exit(main())
