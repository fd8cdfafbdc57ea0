"""What all resource models share: camelCase in YAML, snake_case in Python, and no unknown fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

API_GROUP: Final = "haqa.dev"
API_VERSION: Final = "haqa.dev/v1alpha1"


class ResourceModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


def keyed_by(field: str) -> dict[str, Any]:
    """For a list whose entries one field tells apart: the API server then merges it entry by entry."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [field]}


def first_twice(names: Iterable[str]) -> str | None:
    """The first, alphabetically, of those that are given more than once."""
    return min((name for name, count in Counter(names).items() if count > 1), default=None)


DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

_DURATION = re.compile(r"^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$")


def parse_duration(value: Any) -> timedelta:
    """`2h`, `90m`, `1h30m`, `45s`, as Kubernetes writes durations.

    Raises:
        ValueError: for anything else, naming the value.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write one like 45s, 90m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ValueError(f"{value!r} is longer than anything lasts; write one like 45s, 90m or 1h30m") from None


def format_duration(value: timedelta) -> str:
    total = value.total_seconds()
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [(int(hours), "h"), (int(minutes), "m")]
    text = "".join(f"{number}{unit}" for number, unit in parts if number)
    if seconds or not text:
        text += f"{seconds:g}s"
    return text


_DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?$"

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "minLength": 2, "maxLength": 32}),
]
