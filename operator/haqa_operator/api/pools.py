"""The model of a tuning and the node pools that serve it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from haqa_operator.api.base import DNS_LABEL, ResourceModel, first_twice, keyed_by
from haqa_operator.api.pod_template import ObjectName, PodTemplate


class SecretKeyRef(ResourceModel):
    """One key of a Secret."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret, in the tuning's namespace"""
    key: Annotated[str, Field(max_length=253)] = "token"
    """Key inside the Secret"""
    env: Annotated[str | None, Field(max_length=253)] = None
    """On one machine (`haqa tune`): the environment variable that holds it"""


ModelUri = Annotated[str, Field(pattern=r"^(hf|file|s3|pvc)://.+", max_length=1024)]


class ModelVariant(ResourceModel):
    """A checkpoint of the same model that somebody has published, most often a quantized one."""

    label: Annotated[str, Field(pattern=DNS_LABEL, max_length=40)]
    """Name of the variant in trials and reports"""
    uri: ModelUri
    """Where it is, written as in model.uri; of claims, only the model's own"""
    revision: Annotated[str | None, Field(max_length=255)] = None
    """Branch, tag or commit, for hf://"""


class ModelAdapter(ResourceModel):
    """A LoRA adapter of the model."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=40)]
    """Name by which requests ask for it"""
    uri: ModelUri
    """Where it is, written as in model.uri; of claims, only the model's own"""
    revision: Annotated[str | None, Field(max_length=255)] = None
    """Branch, tag or commit, for hf://"""


class ModelSpec(ResourceModel):
    """The model to serve."""

    uri: ModelUri
    """Where the model is: hf://org/name, pvc://claim/path, s3://bucket/path or file:///path (local runs). One that is
    quantized already is its own baseline, and served as it is"""
    revision: Annotated[str | None, Field(max_length=255)] = None
    """Branch, tag or commit, for hf://"""
    token_secret_ref: SecretKeyRef | None = None
    """Token for a gated model"""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code"""
    variants: Annotated[tuple[ModelVariant, ...], Field(max_length=16)] = Field((), json_schema_extra=keyed_by("label"))
    """Published checkpoints of the same model that are tried beside the schemes that HAQA makes"""
    adapters: Annotated[tuple[ModelAdapter, ...], Field(max_length=16)] = Field((), json_schema_extra=keyed_by("name"))
    """LoRA adapters that are served with the winner; every trial loads them, and its requests take turns with them"""

    @property
    def uris(self) -> dict[str, str]:
        """Where the model, its variants and its adapters are, by the field that says so."""
        variants = {f"spec.model.variants {variant.label}": variant.uri for variant in self.variants}
        adapters = {f"spec.model.adapters {adapter.name}": adapter.uri for adapter in self.adapters}
        return {"spec.model.uri": self.uri, **variants, **adapters}

    @property
    def claim(self) -> str | None:
        """The claim in which the model, a variant or an adapter lies."""
        return next(iter(self._claims), None)

    @property
    def _claims(self) -> tuple[str, ...]:
        claims = (
            uri.removeprefix("pvc://").partition("/")[0] for uri in self.uris.values() if uri.startswith("pvc://")
        )
        return tuple(dict.fromkeys(claims))

    @model_validator(mode="after")
    def _variants_can_be_told_apart(self) -> ModelSpec:
        twice = first_twice(variant.label for variant in self.variants)
        if twice is not None:
            raise ValueError(f"variants: two are labelled {twice!r}; give each a label of its own")
        same = next((v.label for v in self.variants if (v.uri, v.revision) == (self.uri, self.revision)), None)
        if same is not None:
            raise ValueError(f"variants: {same} is the model itself; leave it out")
        return self

    @model_validator(mode="after")
    def _adapters_can_be_told_apart(self) -> ModelSpec:
        twice = first_twice(adapter.name for adapter in self.adapters)
        if twice is not None:
            raise ValueError(f"adapters: two are called {twice!r}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _lies_in_one_claim(self) -> ModelSpec:
        if len(self._claims) > 1:
            named = ", ".join(f"pvc://{claim}" for claim in self._claims)
            raise ValueError(f"model, variants and adapters lie in several claims ({named}); copy them into one")
        return self


class Toleration(ResourceModel):
    """A taint that pods may be scheduled in spite of, as in a pod's own tolerations."""

    key: Annotated[str | None, Field(max_length=317)] = None
    """Key of the taint; none = every taint, with operator Exists"""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists: whatever the taint's value; Equal: the value below"""
    value: Annotated[str | None, Field(max_length=63)] = None
    """Value of the taint, for operator Equal"""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none = all effects"""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated; none = for ever"""


class PeakTflops(ResourceModel):
    """Peak rates of one accelerator by number format, dense, in TFLOPS or TOPS."""

    bf16: Annotated[float, Field(gt=0)]
    """16 bit"""
    int8: Annotated[float | None, Field(gt=0)] = None
    """INT8, where it has units for it"""
    fp8: Annotated[float | None, Field(gt=0)] = None
    """FP8, where it has units for it"""
    fp4: Annotated[float | None, Field(gt=0)] = None
    """FP4, where it has units for it"""


class HardwareOverride(ResourceModel):
    """What the node labels say wrongly or not at all."""

    vendor: Literal["nvidia", "amd", "intel", "cpu"] | None = None
    """Maker of the accelerators; cpu = none, vLLM runs on the processor"""
    product: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """For example NVIDIA-L40S"""
    memory_gib: Annotated[float | None, Field(gt=0)] = None
    """Memory of one accelerator, or of the machine on CPU"""
    compute_capability: Annotated[str | None, Field(pattern=r"^\d+\.\d+$", max_length=8)] = None
    """NVIDIA: for example 8.9"""
    architecture: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = None
    """AMD: the chip as ROCm names it, for example gfx942; it says which formats run"""
    bandwidth_gb_s: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    """Peak memory bandwidth of one accelerator in GB/s; with peakTflops it orders the search and bounds it"""
    peak_tflops: PeakTflops | None = None
    """Peak rates of one accelerator, for products that HAQA does not know"""
    isa: Literal["avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx", "neon"] | None = None
    """CPU: the widest instruction set that it has; env ONEDNN_MAX_CPU_ISA caps what oneDNN uses of it"""


DEVICE_RESOURCE = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"


class NodePool(ResourceModel):
    """Machines of one kind. Every pool gets a winner of its own."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=30)]
    """Name of the pool, part of the names of its trials and of its Deployment"""
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """Labels of the pool's nodes; not used by `haqa tune`, which runs every pool on this machine"""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the trial pods and the winner's pods tolerate"""
    gpus_per_replica: Annotated[int, Field(ge=0, le=64)] = 1
    """Accelerators of one vLLM replica; ignored on CPU nodes"""
    cost_per_hour: Annotated[float | None, Field(gt=0)] = None
    """Price of one replica's machines per hour, in your currency; needed for throughputPerCost"""
    env: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Environment of the engine on this pool, in trials and in the winner's Deployment"""
    image: Annotated[str | None, Field(max_length=512)] = None
    """Engine image; by default the official vLLM image for the pool's hardware"""
    engine_version: Annotated[str | None, Field(pattern=r"^\d+\.\d+\.\d+$", max_length=32)] = None
    """vLLM's version, for example 0.32.0: chooses the official image, or says what is in `image` where its tag does not
    (latest, a digest, an image of your own). By default what the tag says"""
    hardware: HardwareOverride | None = None
    """What the node labels say wrongly or not at all; by default they are believed"""
    device_resource: Annotated[str | None, Field(pattern=DEVICE_RESOURCE, max_length=317)] = None
    """Extended resource that pods request gpusPerReplica of, for example nvidia.com/mig-3g.40gb; by default the one
    that the nodes announce. Needed where they announce several"""
    resource_claim_template: ObjectName | None = None
    """Instead of an extended resource: the ResourceClaimTemplate (resource.k8s.io/v1, Kubernetes 1.34 or later) in the
    tuning's namespace by which a pod gets its gpusPerReplica devices"""
    pod_template: PodTemplate = PodTemplate()
    """What the pool's pods have beside what HAQA gives to them"""

    @model_validator(mode="after")
    def _gets_its_devices_in_one_way(self) -> NodePool:
        if self.device_resource is not None and self.resource_claim_template is not None:
            raise ValueError("devices come by deviceResource or by resourceClaimTemplate; give one of them")
        return self

    @model_validator(mode="after")
    def _some_node_can_meet_selector_and_affinity(self) -> NodePool:
        affinity = self.pod_template.affinity
        label = affinity.contradiction(self.node_selector) if affinity else None
        if label is not None:
            raise ValueError(
                f"nodeSelector {label}={self.node_selector[label]} and podTemplate.affinity exclude each other; no "
                "node can meet both, so change one of them"
            )
        return self
