"""What a pool's nodes are, by the labels that discovery tools put on them and the resources that they announce.

Every vendor's words are in a module of `dialects`, those of clouds beside them. What a person says in
`nodePools[].hardware`, `deviceResource` and `resourceClaimTemplate` goes before all of it.

Pure: labels and allocatable resources in, an `Accelerator` or a sentence out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, HardwareError, NoRoomError, Vendor
from haqa_operator.hardware.dialects import amd, clouds, cpu, foreign, intel, nvidia
from haqa_operator.hardware.dialects.found import Wanted, check_ready
from haqa_operator.hardware.nodes import Node, parse_quantity
from haqa_operator.hardware.override import overridden

_DIALECTS: dict[Vendor, ModuleType] = {Vendor.NVIDIA: nvidia, Vendor.AMD: amd, Vendor.INTEL: intel}
_DOMAINS = {
    "nvidia.com": Vendor.NVIDIA,
    "amd.com": Vendor.AMD,
    "gpu.intel.com": Vendor.INTEL,
    "habana.ai": Vendor.INTEL,
}
_NAMES = {Vendor.NVIDIA: "NVIDIA GPUs", Vendor.AMD: "AMD GPUs", Vendor.INTEL: "Intel accelerators"}
_ALIKE = 1.15
"""Devices of one name differ in memory by what the driver keeps; more is another product."""


def pool_accelerator(
    nodes: Sequence[Node],
    gpus_per_replica: int = 1,
    override: HardwareOverride | None = None,
    env: Mapping[str, str] | None = None,
    *,
    resource: str | None = None,
    claim: str | None = None,
) -> Accelerator:
    """What one replica gets on any node of a pool; the smallest memory, where equal products differ in it.

    Nodes that no replica fits on, or that are not ready for one, are left out as long as there are others.

    Args:
        env: The pool's environment; `ONEDNN_MAX_CPU_ISA` caps what oneDNN uses of a CPU.
        resource: `nodePools[].deviceResource`.
        claim: `nodePools[].resourceClaimTemplate`.

    Raises:
        HardwareError: no node, nodes of several kinds, or a node whose labels do not say what it is.
    """
    if not nodes:
        raise HardwareError("no node matches; label the nodes or fix nodeSelector")
    found: list[tuple[Node, Accelerator]] = []
    without_room: list[NoRoomError] = []
    for node in nodes:
        try:
            one = node_accelerator(node, gpus_per_replica, override, env, resource=resource, claim=claim)
        except NoRoomError as error:
            without_room.append(error)
        else:
            found.append((node, one))
    if not found:
        others = len(without_room) - 1
        raise NoRoomError(f"{without_room[0]}{f' (and {others} more like it)' if others else ''}")
    _check_alike(found)
    accelerators = (accelerator for _, accelerator in found)
    return min(accelerators, key=lambda a: (a.memory_gib or 0, a.cores or 0, a.host_cores or 0))


def node_accelerator(
    node: Node,
    gpus_per_replica: int = 1,
    override: HardwareOverride | None = None,
    env: Mapping[str, str] | None = None,
    *,
    resource: str | None = None,
    claim: str | None = None,
) -> Accelerator:
    """What one replica gets on this node; raises `HardwareError` as `pool_accelerator` does."""
    wanted = Wanted(override.product if override else None, resource, claim)
    vendor = Vendor(override.vendor) if override and override.vendor else _vendor(node, wanted)
    if vendor is None and claim is not None:
        raise HardwareError(
            f"node {node.name}: its devices come by resourceClaimTemplate {claim}, and no label says what they are; "
            "set nodePools[].hardware.vendor and product"
        )
    if vendor is None:
        foreign.refuse(node)
    if vendor is None or vendor is Vendor.CPU:
        return overridden(cpu.read(node, env or {}), override)
    dialect = _DIALECTS[vendor]
    requested: str | None = None if claim else dialect.resource(node, wanted)
    devices = None
    if requested is not None:
        devices = check_ready(node, requested, clouds.product(node) or _NAMES[vendor])
    accelerator: Accelerator = dialect.read(node, wanted, requested)
    accelerator = overridden(replace(accelerator, count=max(1, gpus_per_replica)), override)
    if vendor is Vendor.NVIDIA:
        nvidia.check_count(node, accelerator)
    _check_room(node, accelerator, devices)
    return _with_share(node, accelerator, devices)


def _vendor(node: Node, wanted: Wanted) -> Vendor | None:
    """Whose devices a node has, by what the pool says, what it announces, and what labels say; None: nobody's."""
    if wanted.resource is not None and (named := _DOMAINS.get(wanted.resource.partition("/")[0])) is not None:
        return named
    announced = {vendor: dialect.resources(node) for vendor, dialect in _DIALECTS.items()}
    for vendor, counts in announced.items():
        if any(count > 0 for count in counts.values()):
            return vendor
    for vendor, dialect in _DIALECTS.items():
        if dialect.is_labelled(node):
            return vendor
    by_cloud = clouds.vendor(node)
    if by_cloud is not None:
        return by_cloud
    return next((vendor for vendor, counts in announced.items() if counts), None)


def _check_alike(found: Sequence[tuple[Node, Accelerator]]) -> None:
    kinds = {_kind(accelerator): (node, accelerator) for node, accelerator in reversed(found)}
    ways = {(accelerator.resource, accelerator.sharing) for _, accelerator in found}
    different = [f"{node.name} has {_named(one, len(ways) > 1)}" for node, one in reversed(kinds.values())]
    sizes = sorted(found, key=lambda pair: pair[1].memory_gib or 0)
    (first, least), (last, most) = sizes[0], sizes[-1]
    if len(kinds) == 1 and not least.is_cpu and (most.memory_gib or 0) > _ALIKE * (least.memory_gib or float("inf")):
        different = [f"{node.name} has {one.memory_gib:.0f} GiB" for node, one in ((first, least), (last, most))]
    if len(different) > 1:
        raise HardwareError(
            f"the pool's nodes differ ({', '.join(different)}), so a winner on one says nothing of the other; "
            "make a pool of each kind with a narrower nodeSelector"
        )


def _kind(accelerator: Accelerator) -> tuple[object, ...]:
    """What has to be equal for measurements to carry over from one node to another."""
    if accelerator.is_cpu:
        return (accelerator.vendor, accelerator.isa, accelerator.cores)
    return (
        accelerator.vendor,
        accelerator.product,
        accelerator.compute_capability,
        accelerator.resource,
        accelerator.sharing,
    )


def _named(accelerator: Accelerator, how: bool) -> str:
    """A product, and how its devices are had where that differs too."""
    details = [accelerator.resource, f"shared by {accelerator.sharing}" if accelerator.sharing else "whole"]
    return f"{accelerator.product} ({', '.join(filter(None, details))})" if how else accelerator.product


def _check_room(node: Node, accelerator: Accelerator, devices: int | None) -> None:
    """A replica lives on one node, so the node has to have all of its accelerators."""
    if devices is not None and accelerator.count > devices:
        raise NoRoomError(
            f"gpusPerReplica {accelerator.count}: node {node.name} has {devices} x {accelerator.product}; "
            f"lower it to {devices} or less, or select bigger nodes"
        )


def _with_share(node: Node, accelerator: Accelerator, devices: int | None) -> Accelerator:
    """With the part of the node's processor and memory that belongs to an accelerator."""
    cores, memory = node.allocatable.get("cpu"), node.allocatable.get("memory")
    if not (devices and cores and memory):
        return accelerator
    share = 1 / devices
    return replace(
        accelerator, host_cores=parse_quantity(cores) * share, host_memory_gib=parse_quantity(memory) / 2**30 * share
    )
