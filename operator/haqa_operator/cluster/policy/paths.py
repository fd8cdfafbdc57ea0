"""Fields of a tuning: `spec.nodePools[].tolerations[].key`; the keys of a map `….env{}`, its values `….env{*}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

_NAMES: Final = {"nodePools": "name", "variants": "label", "adapters": "name"}
"""By which field people tell the entries of a list apart."""


class Ending(StrEnum):
    """What is at the end of a step."""

    VALUE = ""
    LIST = "[]"
    KEYS = "{}"
    VALUES = "{*}"


@dataclass(frozen=True)
class Step:
    """Names of nested objects, and what is behind the last.

    Attributes:
        names: Empty where what is before is a list or a map itself.
        named_by: Field that tells the entries of the list apart; None = nothing does.
    """

    names: tuple[str, ...]
    ending: Ending
    named_by: str | None = None


@dataclass(frozen=True)
class Found:
    """A value and where it is: `spec.nodePools[l40s].image`. None where an entry of a list lacks the field."""

    where: str
    value: Any


def steps(path: str) -> tuple[Step, ...]:
    """The path from list to list."""
    parts: list[Step] = []
    names: list[str] = []
    for word in path.split("."):
        name, *endings = re.findall(r"\w+|\[\]|\{\*?\}", word)
        names.append(name)
        for ending in endings:
            parts.append(Step(tuple(names), Ending(ending), _NAMES.get(name)))
            names = []
    return (*parts, Step(tuple(names), Ending.VALUE)) if names else tuple(parts)


def found(manifest: Mapping[str, Any], path: str) -> Iterator[Found]:
    """What is at the path."""
    yield from _below(manifest, steps(path), "")


def _below(value: Any, path: tuple[Step, ...], where: str) -> Iterator[Found]:
    if not path:
        yield Found(where, value)
        return
    step, rest = path[0], path[1:]
    for name in step.names:
        value = value.get(name) if isinstance(value, Mapping) else None
    where = ".".join(filter(None, (where, *step.names)))
    if step.ending is Ending.VALUE:
        yield Found(where, value)
    elif step.ending is Ending.KEYS:
        yield from (Found(where, key) for key in value or {})
    elif step.ending is Ending.VALUES:
        for key, entry in (value or {}).items():
            yield from _below(entry, rest, f"{where}.{key}")
    else:
        for entry in value or ():
            name = entry[step.named_by] if step.named_by else ""
            yield from _below(entry, rest, f"{where}[{name}]" if rest else where)
