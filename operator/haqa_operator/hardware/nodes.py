"""A Kubernetes node as far as its hardware goes, and the numbers that labels and resources are written in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from haqa_operator.hardware.accelerators import HardwareError


@dataclass(frozen=True)
class Node:
    """Attributes:
    allocatable: Resource -> quantity as Kubernetes writes it: `nvidia.com/gpu: "8"`, `memory: 515Gi`, `cpu: 3920m`.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)

    def first(self, labels: Iterable[str]) -> str | None:
        """The value of the first of these labels that says something."""
        return next((value for label in labels if (value := self.labels.get(label))), None)

    def number(self, labels: Iterable[str], factor: float = 1.0) -> float | None:
        """The first of these labels that is a number above 0, times the factor."""
        values = (self.labels.get(label, "") for label in labels)
        return next((int(value) * factor for value in values if _is_count(value) and int(value) > 0), None)

    def offers(self, resource: str) -> int | None:
        """How many of a device that nodes announce; None where this node does not announce it at all."""
        text = self.allocatable.get(resource)
        if text is None:
            return None
        return int(text) if _is_count(text) else int(parse_quantity(text))


def _is_count(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


_QUANTITY = re.compile(r"^([0-9]{1,20}(?:\.[0-9]{1,20})?)([a-zA-Z]*)$")
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    unit + "i": 2.0 ** (10 * power) for power, unit in enumerate("KMGTP", 1)
}


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity: `24Gi`, `3920m`, `131901456Ki`, `64`.

    Raises:
        HardwareError: for anything else.
    """
    match = _QUANTITY.match(text.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise HardwareError(f"{text!r} is not a Kubernetes quantity such as 24Gi, 131901456Ki or 3920m")
    return float(match[1]) * _SUFFIXES[match[2]]
