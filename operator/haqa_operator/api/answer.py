"""An answer, written down whole when it is decided: later looks apply it and never work it out again.

In a cluster it is the `data` of a ControllerRevision, which the API server keeps as it is; how far it is with being
served stands in the annotations.
"""

from __future__ import annotations

from pydantic import Field

from haqa_contract import Estimate
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import PoolStatus, StatusModel
from haqa_operator.api.tuning import Output


class Surroundings(StatusModel):
    """What a winner was measured in, as far as a change of it makes the answer doubtful."""

    engine_image: str
    """As the pods name it"""
    engine_image_id: str | None = None
    """Digest of the image that the trial ran, as its node reported it"""
    model_digest: str
    """Which model it was"""
    node_labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Node types, products and drivers of the pool's nodes: label -> all values"""
    cost_per_hour: float | None = None
    """Of one replica's machines"""


class Answer(StatusModel):
    """What was decided for one pool of a tuning, and everything that serving it takes."""

    tuning: str
    """Name of the tuning"""
    pool: str
    """Name of its node pool"""
    key: str
    """Equal for equal answers"""
    asked: str
    """Hash of the part of the spec that was answered"""
    again: str = ""
    """Text by which somebody had everything measured once more"""
    trial: str
    """Name of the QuantizationTrial that won"""
    configuration: str
    """What it serves and how, in short"""
    reason: str
    """Why it won, in one or two sentences"""
    notes: tuple[str, ...] = ()
    """What somebody should know about how it was found"""
    speedup: Estimate | None = None
    """Objective over the baseline's, turned so that above 1 is better"""
    confirmed: bool = False
    """Winner and baseline were measured alternately, and the speed-up is from there"""
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    """The winner's measured numbers by metric key"""
    engine_version: str | None = None
    """vLLM's version"""
    artifact_digest: str | None = None
    """Content address of the quantized model; none = a checkpoint as it is"""
    surroundings: Surroundings
    """What it was measured in"""
    output: Output = Output()
    """What was to become of it"""
    status: PoolStatus
    """The pool's status when it was decided"""
    manifests: tuple[Manifest, ...] = ()
    """Deployment, Service and PodDisruptionBudget as they are applied"""
    verification: Manifest | None = None
    """Job that measures a pod of it; the pod's address is filled in"""
    decided: float
    """Unix seconds"""

    def manifest(self, kind: str) -> Manifest | None:
        """The one of a kind; None where the answer has none."""
        return next((one for one in self.manifests if one["kind"] == kind), None)

    @property
    def served_by(self) -> str | None:
        """Name of the Deployment, or of the InferenceService, that serves it."""
        return self.server[1] if self.server else None

    @property
    def server(self) -> tuple[str, str] | None:
        """Kind and name of it."""
        made = self.manifest("Deployment") or self.manifest("InferenceService")
        return (str(made["kind"]), str(made["metadata"]["name"])) if made else None
