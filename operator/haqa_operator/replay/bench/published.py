"""The published measurements under benchmarks/tables, until everybody calls `reading.problems_of` for them."""

from __future__ import annotations

from pathlib import Path

from haqa_operator.replay.bench.problems import Half, Problem
from haqa_operator.replay.bench.reading import problems_of

_TABLES = Path("benchmarks/tables")
_PUBLISHED = ("argonne.csv", "qserve.csv", "redhat.csv", "torchao.csv")


def problems(folder: Path = _TABLES, half: Half | None = None) -> list[Problem]:
    """The selection; `folder` without these files (the sources as they were published) stands for benchmarks/tables."""
    if not (folder / _PUBLISHED[0]).exists():
        folder = _TABLES
    return problems_of([folder / name for name in _PUBLISHED], half)
