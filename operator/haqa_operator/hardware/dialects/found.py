"""What a dialect reads of a node, before a person's word and the catalogue are asked."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.hardware.accelerators import HardwareError, NoRoomError
from haqa_operator.hardware.catalogue import find
from haqa_operator.hardware.nodes import Node


@dataclass(frozen=True)
class Wanted:
    """What the pool says of itself.

    Attributes:
        product: nodePools[].hardware.product.
        resource: nodePools[].deviceResource: what its pods request.
        claim: nodePools[].resourceClaimTemplate: its devices come by that, and no resource is requested.
    """

    product: str | None = None
    resource: str | None = None
    claim: str | None = None

    def contradicts(self, labelled: str | None) -> bool:
        """Whether labels speak of another product, so that what else they say of it does not hold."""
        return self.product is not None and labelled is not None and find(labelled) != find(self.product)


def offered(node: Node, wanted: Wanted, known: dict[str, int], usual: str) -> str:
    """The resource that a pod of the pool requests on this node.

    Args:
        known: Resource -> how many, of the vendor's that the node announces or its labels speak of.
        usual: The vendor's usual name, where none is announced.

    Raises:
        HardwareError: it is not clear which.
    """
    if wanted.resource is not None:
        return wanted.resource
    some = sorted(name for name, count in known.items() if count > 0)
    if len(some) > 1:
        named = ", ".join(f"{name} ({known[name]})" for name in some)
        raise HardwareError(
            f"node {node.name}: it has devices of several sizes: {named}; name the one that the pool uses in "
            "nodePools[].deviceResource"
        )
    return some[0] if some else next(iter(sorted(known)), usual)


def check_ready(node: Node, resource: str, what: str) -> int:
    """How many of a resource the node offers.

    Args:
        what: What its labels say that it has.

    Raises:
        NoRoomError: none, now or yet.
    """
    count = node.offers(resource)
    if count:
        return count
    said = "offers none of" if count is None else "offers 0 of"
    raise NoRoomError(
        f"node {node.name}: it is said to have {what}, and its kubelet {said} {resource}; look at the vendor's driver "
        "and device plugin there, whose pods may be starting or failing; set nodePools[].deviceResource or "
        "resourceClaimTemplate where the devices have another name, or hardware.vendor cpu to serve on the processor"
    )
