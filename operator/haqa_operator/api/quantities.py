"""Kubernetes quantities, as people write them: `24Gi`, `3920m`, `4`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

_PATTERN: Final = r"^[0-9]{1,20}(\.[0-9]{1,20})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)([a-zA-Z]{0,2})")
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    unit + "i": 2.0 ** (10 * power) for power, unit in enumerate("KMGTP", 1)
}


def parse_quantity(text: str) -> float:
    """`24Gi` -> 25769803776.0, `3920m` -> 3.92.

    Raises:
        ValueError: for anything else.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a Kubernetes quantity such as 24Gi, 131901456Ki or 3920m")
    return float(match[1]) * _SUFFIXES[match[2]]


def _text(value: Any) -> Any:
    """YAML makes a number of `cpu: 4`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_text),
    Field(pattern=_PATTERN),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _PATTERN}),
]
