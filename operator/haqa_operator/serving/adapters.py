"""LoRA adapters as the engine is told to serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from haqa_operator.serving.settings import catalogue

EXPERTS = "experts"
"""Name among an adapter's targets that stands for the matrices of all experts."""


class LookedAt(Protocol):
    """An adapter as the look at it says."""

    @property
    def name(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def targets(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class LoraSlots:
    """What the engine keeps room for, whichever adapters are loaded.

    Attributes:
        count: Adapters at once.
        rank: That each may have: the least that vLLM allows and all of them fit in.
        targets: Modules that any of them changes, by the last part of their names; the engine leaves all others as
            they are. Empty where they are not known.
    """

    count: int
    rank: int
    targets: tuple[str, ...]

    @classmethod
    def of(cls, adapters: Sequence[LookedAt]) -> LoraSlots | None:
        """All of them at once, so that no request waits until another one's adapter is put aside; None for none."""
        if not adapters:
            return None
        largest = max(adapter.rank for adapter in adapters)
        ranks = sorted(int(rank) for rank in catalogue().settings["max-lora-rank"].choices)
        return cls(
            len(adapters),
            next(rank for rank in ranks if rank >= largest),
            tuple(sorted({target for adapter in adapters for target in adapter.targets})),
        )


@dataclass(frozen=True)
class ServedAdapters:
    """LoRA adapters beside the model.

    Attributes:
        paths: Name -> folder, as the engine sees it.
        slots: Room for them.
    """

    paths: Mapping[str, str]
    slots: LoraSlots

    @classmethod
    def of(cls, adapters: Sequence[LookedAt], folder: str) -> ServedAdapters | None:
        """Each in a folder of its name below `folder`; None where there are none."""
        slots = LoraSlots.of(adapters)
        return cls({adapter.name: f"{folder}/{adapter.name}" for adapter in adapters}, slots) if slots else None

    def arguments(self) -> tuple[str, ...]:
        slots = self.slots
        limits = (f"--max-lora-rank={slots.rank}", f"--max-loras={slots.count}")
        modules = (f"{name}={path}" for name, path in self.paths.items())
        only = ("--lora-target-modules", *slots.targets) if slots.targets else ()
        return ("--enable-lora", *limits, *only, "--lora-modules", *modules)
