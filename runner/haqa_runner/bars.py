"""Listens to other libraries' progress bars.

The hub's downloader, transformers and llm-compressor all report through tqdm. Its one drawing method is replaced for
the time of a block, so their progress comes as numbers, and their bars stay out of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """A progress bar at one moment; `total` is 0 where its owner does not know it."""

    description: str
    done: float
    total: float
    unit: str

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0


@contextmanager
def heard_bars(listener: Callable[[Bar], None]) -> Iterator[None]:
    """Every tqdm bar that would draw itself calls `listener` instead, from whatever thread it lives in."""
    import tqdm.std

    drawing = tqdm.std.tqdm.display

    def tell(bar: Any, *_: Any, **__: Any) -> bool:
        description = (bar.desc or "").rstrip(": ")
        listener(Bar(description, float(bar.n or 0), float(bar.total or 0), str(bar.unit)))
        return True

    tqdm.std.tqdm.display = tell
    try:
        yield
    finally:
        tqdm.std.tqdm.display = drawing
