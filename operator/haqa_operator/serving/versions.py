"""vLLM's releases as numbers."""

from __future__ import annotations

import re

Version = tuple[int, int, int]


def parse_version(text: str) -> Version:
    """`0.32.0`, `v0.32.0+cpu`, `0.33.0rc1` -> (0, 32, 0) and so on.

    Raises:
        ValueError: no version in the text.
    """
    match = re.match(r"^v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a version of vLLM; write one like 0.32.0")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def release_of(text: str | None) -> Version | None:
    """The same; None where there is no version in it, as in what a build of somebody's own calls itself."""
    try:
        return parse_version(text) if text else None
    except ValueError:
        return None


def dotted(numbers: tuple[int, ...]) -> str:
    """(0, 32, 0) -> 0.32.0"""
    return ".".join(map(str, numbers))
