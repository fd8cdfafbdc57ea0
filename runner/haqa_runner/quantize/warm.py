"""Imports `compressor` in two thirds of the time.

Nearly all of a small model's quantization is importing. transformers and requests look for optional packages and import
them for object detection losses, assisted generation and guessing encodings; nothing here needs those. A process that
shall be forked into this step imports this module (`quantize.PRELOAD`) and does not pay again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = ("sklearn", "scipy", "chardet")


@contextmanager
def pretended_missing(names: tuple[str, ...]) -> Iterator[None]:
    """Inside, importing one of `names` fails as if it were not installed, unless it is imported already.

    None in sys.modules means just that (Python's documentation of the import system, 5.3.1).
    """
    missing = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


with pretended_missing(_OPTIONAL):
    from haqa_runner.quantize import compressor

__all__ = ["compressor"]
