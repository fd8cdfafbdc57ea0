"""What an answer was measured in, and what is otherwise by now. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from haqa_operator.api import NodePool
from haqa_operator.api.answer import Surroundings
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.observe.revisions import canonical
from haqa_operator.hardware.nodes import Node
from haqa_operator.serving.pod import ENGINE_CONTAINER

NODE_LABELS = {
    "node.kubernetes.io/instance-type": "node type",
    "nvidia.com/gpu.product": "GPU",
    "nvidia.com/cuda.driver-version.full": "driver",
    "nvidia.com/cuda.runtime-version.full": "CUDA runtime",
    "nvidia.com/cuda.driver.major": "driver",
    "nvidia.com/cuda.driver.minor": "driver",
    "nvidia.com/mig.strategy": "MIG strategy",
    "cloud.google.com/gke-accelerator": "GPU",
    "cloud.google.com/gke-gpu-driver-version": "driver",
    "amd.com/gpu.product-name": "GPU",
    "amd.com/gpu.driver-version": "driver",
    "amd.com/gpu.vram": "GPU memory",
    "habana.ai/hl_driver.version": "driver",
    "gpu.intel.com/product": "GPU",
    "feature.node.kubernetes.io/cpu-model.id": "CPU model",
}
"""Labels whose values bear on speed, and what they are called in a sentence. NVIDIA GPU feature discovery, AMD's node
labeller, GKE, Intel's and Habana's plugins, node feature discovery."""


def surroundings(
    pool: NodePool, nodes: Sequence[Node], engine_image: str, engine_image_id: str | None, model_digest: str
) -> Surroundings:
    labels = {name: tuple(sorted({node.labels[name] for node in nodes if name in node.labels})) for name in NODE_LABELS}
    return Surroundings(
        engine_image=engine_image,
        engine_image_id=engine_image_id,
        model_digest=model_digest,
        node_labels={name: values for name, values in labels.items() if values},
        cost_per_hour=pool.cost_per_hour,
    )


def image_id_of(pods: Iterable[Manifest]) -> str | None:
    """Digest of the image that an engine of these pods runs, as its kubelet reports it; None where it is not known."""
    for pod in pods:
        status = pod.get("status", {})
        states = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        found = next(
            (str(one["imageID"]) for one in states if one["name"] == ENGINE_CONTAINER and one.get("imageID")), ""
        )
        if found:
            return found
    return None


def changes(measured: Surroundings, now: Surroundings) -> tuple[str, ...]:
    """What is otherwise than when the answer was measured, a sentence each; what is not known now is not a change."""
    return tuple(_changes(measured, now))


def only_price_changed(measured: Surroundings, now: Surroundings) -> bool:
    """Whether every number that was measured still holds."""
    return not changes(measured, now.model_copy(update={"cost_per_hour": measured.cost_per_hour}))


def digest(of: Surroundings) -> str:
    """Ten hexadecimal digits, equal for equal surroundings."""
    return hashlib.sha256(canonical(of.model_dump(mode="json")).encode()).hexdigest()[:10]


def _changes(measured: Surroundings, now: Surroundings) -> Iterator[str]:
    if now.engine_image and now.engine_image != measured.engine_image:
        yield f"the engine's image is {now.engine_image} now, and {measured.engine_image} was measured"
    elif now.engine_image_id and measured.engine_image_id and now.engine_image_id != measured.engine_image_id:
        yield (
            f"{measured.engine_image} is another image by now: {_short(now.engine_image_id)} serves, and "
            f"{_short(measured.engine_image_id)} was measured"
        )
    if now.model_digest and now.model_digest != measured.model_digest:
        yield f"the model is {now.model_digest} now, and {measured.model_digest} was measured"
    yield from _changed_nodes(measured.node_labels, now.node_labels)
    if now.cost_per_hour != measured.cost_per_hour:
        yield f"costPerHour is {now.cost_per_hour} now, and was {measured.cost_per_hour}"


def _changed_nodes(measured: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, values in sorted(now.items()):
        new = [value for value in values if value not in measured.get(name, ())]
        if new and name in measured:
            known, what = ", ".join(measured[name]), NODE_LABELS.get(name, name)
            yield f"there are nodes with {what} {', '.join(new)} ({name}), and {known} was measured"


def _short(image_id: str) -> str:
    digest = image_id.rpartition("sha256:")[2]
    return f"sha256:{digest[:12]}"
