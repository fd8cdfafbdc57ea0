"""What the log lines of this thread or task are about: namespace, tuning, pool, trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039, never changed in place


@contextmanager
def about(**names: str) -> Iterator[None]:
    """Adds names to every line that is logged in the block."""
    token = _ABOUT.set({**_ABOUT.get(), **names})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def current() -> Mapping[str, str]:
    return _ABOUT.get()
