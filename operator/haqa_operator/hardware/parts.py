"""Parts of a device that Kubernetes hands out as devices: MIG profiles of NVIDIA's, compute partitions of AMD's.

A part's name stands behind the product's, as GPU Feature Discovery writes it (`NVIDIA-A100-SXM4-40GB-MIG-1g.5gb`), and
says what the part has of the whole. Sources: NVIDIA's MIG user guide; AMD's documentation of the MI300 partition modes,
and the amdgpu driver, which gives each compute partition an equal part of the memory whatever the memory mode is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MIG = re.compile(r"(?:([1-7])c\.)?([1-7])g\.([1-9][0-9]{0,2})gb(?:[.+-][a-z.+-]+)?", re.IGNORECASE)
_MIG_OF_PRODUCT = re.compile(r"-mig-(?P<profile>.+)$", re.IGNORECASE)

_MIG_USABLE = 0.95
"""Of the memory that a profile is named by: 4.75 GiB of 1g.5gb, 9.6 of 1g.10gb."""

_COMPUTE_PARTITIONS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
_PARTITION = re.compile(r"(spx|dpx|tpx|qpx|cpx)(?:[_-]nps([1248]))?", re.IGNORECASE)
_PARTITION_OF_PRODUCT = re.compile(r"-(?P<mode>[sdtqc]px)$", re.IGNORECASE)


@dataclass(frozen=True)
class MigProfile:
    """`3g.40gb`: three compute slices and 40 GB. `1c.3g.40gb`: one of the three, the memory shared with the others.

    Attributes:
        compute: Slices that it computes with.
        shares_memory: Others have the same memory and cache.
    """

    name: str
    compute: int
    memory_gb: int
    shares_memory: bool

    @classmethod
    def parse(cls, text: str) -> MigProfile | None:
        """A profile as NVIDIA writes it, in a product's name, a resource or a label; None for anything else."""
        match = _MIG.fullmatch(text)
        if match is None:
            return None
        own, whole = int(match[1] or match[2]), int(match[2])
        if own > whole:
            return None
        return cls(text, own, int(match[3]), own < whole)

    @property
    def memory_gib(self) -> float:
        """What it has about, where no label says."""
        return self.memory_gb * _MIG_USABLE

    def compute_share(self, slices: int) -> float:
        """Of a device that has so many slices."""
        return min(1.0, self.compute / slices)


def mig_profile(product: str) -> MigProfile | None:
    """That of a product's name."""
    match = _MIG_OF_PRODUCT.search(product)
    return MigProfile.parse(match["profile"]) if match else None


def compute_partition(text: str) -> str | None:
    """`cpx_nps4` -> `CPX`; None for anything that is no partition mode of AMD's."""
    match = _PARTITION.fullmatch(text)
    return match[1].upper() if match else None


def partition_of(product: str) -> str | None:
    """The compute partition in a product's name; None where it is whole."""
    match = _PARTITION_OF_PRODUCT.search(product)
    return match["mode"].upper() if match else None


def partitions(mode: str, dies: int) -> int:
    """How many a device is cut into.

    Args:
        dies: Its compute dies; CPX makes each of them a device.
    """
    return dies if mode == "CPX" else _COMPUTE_PARTITIONS[mode]


def whole(product: str) -> str:
    """The name without that of the part."""
    return _PARTITION_OF_PRODUCT.sub("", _MIG_OF_PRODUCT.sub("", product))


def is_part(product: str) -> bool:
    """Whether a name is that of a part."""
    return whole(product) != product
