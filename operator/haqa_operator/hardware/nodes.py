"""A Kubernetes node as far as its hardware goes, and the numbers that labels and resources are written in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from haqa_operator.api import quantities
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


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity: `24Gi`, `3920m`, `131901456Ki`, `64`.

    Raises:
        HardwareError: for anything else.
    """
    try:
        return quantities.parse_quantity(text)
    except ValueError as error:
        raise HardwareError(str(error)) from None
