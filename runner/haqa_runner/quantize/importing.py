"""What can be decided about a library only while it is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def environment_defaults(**variables: str) -> Iterator[None]:
    """Inside, environment variables that are not set have these values; for libraries that read them as they load."""
    unset = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in unset})
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]
