"""Whatever stands on a node, reading it ends in an accelerator or in the one error that has a sentence for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.hardware.label_cases import READ, REFUSED

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, HardwareError
from haqa_operator.hardware.node_labels import pool_accelerator
from haqa_operator.hardware.nodes import Node

LABELS = [labels for _, labels, *_ in READ + REFUSED]
DEVICES = [devices for _, _, devices, *_ in READ + REFUSED]
NAMES = sorted({name for labels in LABELS for name in labels})
VALUES = sorted({value for labels in LABELS for value in labels.values()})
RESOURCES = sorted({name for devices in DEVICES for name in devices} | {"cpu", "memory", "nvidia.com/mig-9g.1gb"})

# What Kubernetes takes as a label's value, real ones and others.
values = st.sampled_from(VALUES) | st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?)?", fullmatch=True)
# What somebody else's device plugin may have left there, too.
quantities = st.integers(0, 64).map(str) | st.sampled_from(["64Gi", "250m", "1k", "0", "", "-1", "1e3", "many"])
labels = st.sampled_from(LABELS) | st.dictionaries(st.sampled_from(NAMES), values, max_size=12)
nodes = st.builds(
    lambda name, several, more, devices: Node(name, {**several, **more}, devices),
    st.sampled_from(["a", "b"]),
    labels,
    st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    st.sampled_from(DEVICES) | st.dictionaries(st.sampled_from(RESOURCES), quantities, max_size=4),
)
overrides = st.none() | st.builds(
    HardwareOverride,
    vendor=st.none() | st.sampled_from(["nvidia", "amd", "intel", "cpu"]),
    product=st.none() | values.filter(bool),
    memory_gib=st.none() | st.floats(0.1, 1000),
)


@given(
    st.lists(nodes, max_size=3),
    st.integers(0, 8),
    overrides,
    st.none() | st.sampled_from(RESOURCES),
    st.none() | st.just("claim"),
)
def test_reading_a_pool_gives_an_accelerator_or_a_sentence(
    found: list[Node], count: int, override: HardwareOverride | None, resource: str | None, claim: str | None
) -> None:
    try:
        accelerator = pool_accelerator(found, count, override, resource=resource, claim=claim)
    except HardwareError:
        return
    assert isinstance(accelerator, Accelerator)
    assert accelerator.describe()
    assert accelerator.is_cpu or accelerator.count == max(1, count)
    assert (accelerator.memory_gib or 1) > 0
    assert claim is None or accelerator.resource is None
    if override is not None and override.memory_gib is not None:
        assert accelerator.memory_gib == override.memory_gib


@given(st.lists(nodes, min_size=2, max_size=3))
def test_the_order_of_nodes_decides_nothing(found: list[Node]) -> None:
    def read(ordered: list[Node]) -> tuple[object, ...] | None:
        try:
            one = pool_accelerator(ordered)
        except HardwareError:
            return None
        return one.vendor, one.product, one.memory_gib, one.resource, one.sharing

    assert read(found) == read(found[::-1])
