"""What the operator writes into a tuning's status: enough to answer "is it fine, and if not why" without its log.

A status that a newer operator wrote has to be readable by an older one, so unknown fields are passed over here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from haqa_contract import Calibration, Estimate, Evaluation, Scheme, VariantReport, Workload
from haqa_contract.model_facts import CheckpointFormat
from haqa_contract.reports import ModuleName
from haqa_operator.api.base import ResourceModel, keyed_by


class StatusModel(ResourceModel):
    model_config = {**ResourceModel.model_config, "extra": "ignore"}


def _known_fields_of(model: type[BaseModel]) -> BeforeValidator:
    """For a part of the spec, which refuses unknown fields where a person writes it."""
    known = {name for field, info in model.model_fields.items() for name in (field, info.alias)}

    def read(value: Any) -> Any:
        return {name: of for name, of in value.items() if name in known} if isinstance(value, dict) else value

    return BeforeValidator(read)


class TuningPhase(StrEnum):
    PENDING = "Pending"
    """No trial was started: `model` and `nodePools` may still change"""
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    """Every pool has its answer, be it the baseline"""
    FAILED = "Failed"
    """At least one pool ended without an answer"""


class PoolPhase(StrEnum):
    PENDING = "Pending"
    """Waits, for example for a node"""
    SEARCHING = "Searching"
    CONFIRMING = "Confirming"
    AWAITING_APPROVAL = "AwaitingApproval"
    """output.approval is Manual, and nobody has approved the winner yet"""
    DEPLOYING = "Deploying"
    """The winner's pods are starting"""
    VERIFYING = "Verifying"
    """The winner is deployed, and measured once more before it gets requests"""
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class AnswerPhase(StrEnum):
    DECIDED = "Decided"
    """On record, and nothing is deployed from it yet"""
    DEPLOYING = "Deploying"
    """Its pods are starting, beside those that serve or in their place"""
    VERIFYING = "Verifying"
    """A pod of it is measured before it gets requests"""
    SERVING = "Serving"
    RETIRED = "Retired"
    """Served until a later answer did"""
    ROLLED_BACK = "RolledBack"
    """Did not start, or was not as fast as its trial: the answer before it serves"""
    DROPPED = "Dropped"
    """A later answer came before it served"""


STALE = "Stale"
"""Condition, there once a pool has an answer: True where something has changed since it was measured."""
OWN_TEXT = "OwnText"
"""Condition, there only where it is False: accuracy is judged, or quantization calibrated, on HAQA's built-in text."""


class Condition(StatusModel):
    """One aspect of the state, in the shape of Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """Aspect: Ready, Progressing, Degraded and others"""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds"""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """One word in CamelCase, for programs"""
    message: Annotated[str, Field(max_length=32768)] = ""
    """One or two sentences for people: what is the case, with the value, and what to do"""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When `status` last changed, RFC 3339"""
    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """metadata.generation that this was found for"""


class BudgetUsed(StatusModel):
    """What was spent so far."""

    trials: Annotated[int, Field(ge=0)] = 0
    """Finished trials, the baselines not counted"""
    failed_trials: Annotated[int, Field(ge=0)] = 0
    """Failed trials"""
    gpu_hours: Annotated[float, Field(ge=0)] = 0
    """Accelerator-hours; machine-hours on CPU"""
    duration_seconds: Annotated[float, Field(ge=0)] = 0
    """Time since the first trial"""
    agent_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens the agent used, prompts and replies"""


class FetchedVariant(StatusModel):
    """What was found out about a published checkpoint of model.variants."""

    label: str
    """As model.variants calls it"""
    variant: str
    """As its trials name it: label, @ and digest"""
    digest: str
    """Which files these are: hub commit, or hash of them"""
    path: str
    """Where it lies, or will once a trial has fetched it, as a trial's pod sees it"""
    weight_bytes: Annotated[int, Field(ge=0)]
    """Of all tensors in its files"""
    predicted_tokens: Annotated[int, Field(ge=0)] = 0
    """Beside the next one, by layers in its files"""
    format: str | None = None
    """How it is quantized, as people call it; none = not quantized"""
    method: str | None = None
    """vLLM's name of that"""
    scheme: str = Scheme.BF16.value
    """The scheme that the engine computes alike"""
    group_size: int | None = None
    """Weights that share one scale; none = the scheme's own"""

    @classmethod
    def of(cls, report: VariantReport) -> FetchedVariant:
        found = report.quantization
        described = (
            {"format": found.name, "method": found.method, "scheme": found.scheme.value, "group_size": found.group_size}
            if found
            else {}
        )
        return cls(
            label=report.label,
            variant=report.variant,
            digest=report.digest,
            path=report.path,
            weight_bytes=report.weight_bytes,
            predicted_tokens=report.predicted_tokens,
            **described,
        )

    @property
    def quantization(self) -> CheckpointFormat | None:
        """None for one that is not quantized."""
        if self.format is None:
            return None
        # A newer operator may know a scheme that this one does not.
        scheme = Scheme(self.scheme) if self.scheme in list(Scheme) else Scheme.OTHER
        return CheckpointFormat(name=self.format, method=self.method or "", scheme=scheme, group_size=self.group_size)


class FetchedAdapter(StatusModel):
    """What was found out about a LoRA adapter of model.adapters."""

    name: str
    """As model.adapters calls it"""
    digest: str
    """Which files these are: hub commit, or hash of them"""
    rank: Annotated[int, Field(ge=1)]
    """Largest of its matrices' ranks"""
    targets: tuple[ModuleName, ...] = ()
    """Modules that it changes, by the last part of their names"""


class FetchedModel(StatusModel):
    """What was found out about the model when it was fetched."""

    digest: str
    """Which model this is: hub commit, or hash of the files"""
    facts: str | None = None
    """What it is made of: matrices by what they are for, KV cache, limits; as JSON text"""
    path: str | None = None
    """Where it lies, as a trial's pod sees it"""
    variants: tuple[FetchedVariant, ...] = Field((), json_schema_extra=keyed_by("label"))
    """Its published checkpoints"""
    adapters: tuple[FetchedAdapter, ...] = Field((), json_schema_extra=keyed_by("name"))
    """What is served beside it"""
    looked: str | None = None
    """When it was looked at last, in RFC 3339; once all pools have answers, it is looked at again once in a while"""

    def variant(self, name: str) -> FetchedVariant | None:
        """The one that a configuration names."""
        return next((one for one in self.variants if one.variant == name), None)


class Skipped(StatusModel):
    """Part of the search space that is ruled out, before any trial or by one."""

    parameters: str
    """What the excluded configurations have in common, for example scheme=FP8-DYNAMIC"""
    reason: str
    """Why none of them was tried"""


class BestTrial(StatusModel):
    """The best trial so far; the winner once the pool has Succeeded."""

    trial: str
    """Name of the QuantizationTrial"""
    configuration: str
    """What it serves and how, in short: W4A16/gptq g128, max-num-seqs=64"""
    speedup: Estimate | None = None
    """Objective over the baseline's, turned so that above 1 is better"""
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    """Its measured numbers by metric key: throughput, ttft.p95@1, perplexity"""


class TrialCounts(StatusModel):
    """Trials by how far they got, the baseline among them."""

    total: Annotated[int, Field(ge=0)] = 0
    """All trials there are"""
    running: Annotated[int, Field(ge=0)] = 0
    """Not finished yet"""
    succeeded: Annotated[int, Field(ge=0)] = 0
    """Finished with a measurement"""
    failed: Annotated[int, Field(ge=0)] = 0
    """Finished without one"""


class MeasuredWith(StatusModel):
    """What every trial of a pool is measured with: the spec's fields, with the defaults for the pool's hardware."""

    workload: Annotated[Workload, _known_fields_of(Workload)] = Workload()
    """The traffic"""
    evaluation: Annotated[Evaluation, _known_fields_of(Evaluation)] = Evaluation()
    """How accuracy is judged"""
    calibration: Annotated[Calibration, _known_fields_of(Calibration)] = Calibration()
    """Text that quantization is calibrated on"""

    def describe(self) -> str:
        """In half a sentence."""
        workload, evaluation, calibration = self.workload, self.evaluation, self.calibration
        window = f"{workload.duration_s:g} s" if workload.duration_s else "by requests"
        prompts = f"prompts from {workload.dataset}, cut to" if workload.dataset else "prompts of"
        return (
            f"concurrency {', '.join(map(str, workload.concurrency))}, {prompts} {workload.input_tokens} and answers "
            f"of {workload.output_tokens} tokens, {workload.repeats} windows each ({window}); evaluation of "
            f"{evaluation.samples} x {evaluation.sequence_length} tokens, calibration on "
            f"{calibration.samples} x {calibration.sequence_length}"
        )


class AnswerStatus(StatusModel):
    """What was decided for a pool, from the record that is applied."""

    revision: Annotated[int, Field(ge=1)]
    """Counts the tuning's answers for this pool"""
    record: str
    """Name of the ControllerRevision that holds it"""
    trial: str
    """Name of the QuantizationTrial that won"""
    phase: AnswerPhase
    """How far it is with being served"""
    since: str | None = None
    """When it came to this phase, RFC 3339"""
    message: str = ""
    """Why it was rolled back, or what was found when it was verified"""
    confirmed: bool = False
    """Winner and baseline were measured alternately, and the speed-up is from there"""
    serving: Annotated[int | None, Field(ge=1)] = None
    """Revision that serves now; none = no answer does"""
    stale: str | None = None
    """What has changed since it was measured"""
    left_behind: tuple[str, ...] = ()
    """Deployments of this pool, and InferenceService/NAME, that no answer names any more; `haqa prune` removes them"""


class PoolStatus(StatusModel):
    """How far a node pool is and what was found for it."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the pool in spec.nodePools"""
    phase: PoolPhase = PoolPhase.PENDING
    """Where the pool is; Succeeded and Failed are final until the spec changes"""
    hardware: str | None = None
    """What the nodes have, from their labels and the override"""
    message: str = ""
    """What the pool is doing or waiting for, or why it has no winner"""
    measured_with: MeasuredWith | None = None
    """What its trials are measured with, defaults for its hardware included"""
    candidates: Annotated[int | None, Field(ge=0)] = None
    """Feasible configurations there are to try"""
    skipped: tuple[Skipped, ...] = ()
    """Parts of the search space that cannot work on this pool, and why"""
    baseline: str | None = None
    """Name of the trial of the model as it was given with the engine's defaults"""
    best: BestTrial | None = None
    """The best trial so far that meets every constraint"""
    pareto: tuple[str, ...] = ()
    """Names of the trials that no other beats in everything"""
    trials: TrialCounts = TrialCounts()
    """How many trials there are, by how far they got"""
    budget_used: BudgetUsed = BudgetUsed()
    """What this pool has spent of spec.budget"""
    deployment: str | None = None
    """Name of the Deployment that serves the winner"""
    answer: AnswerStatus | None = None
    """The latest answer on record"""
    stopped: str | None = None
    """Why the search ended"""


class TuningStatus(StatusModel):
    """What the operator found; written by it alone."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """metadata.generation that this status is about"""
    phase: TuningPhase = TuningPhase.PENDING
    """Pending until the first trial starts, then Running, Suspended, Succeeded or Failed"""
    best_speedup: str | None = None
    """Best speed-up over the baseline among the pools, for example 2.31x"""
    pools_done: str | None = None
    """Pools that have their answer, of all, for example 1/2"""
    trials_done: str | None = None
    """Finished trials of all that there are, for example 7/8"""
    conditions: tuple[Condition, ...] = Field(default=(), json_schema_extra=keyed_by("type"))
    """Ready: every pool has a winner that serves; Progressing: work is going on; Degraded: something needs a person"""
    budget_used: BudgetUsed = BudgetUsed()
    """What all pools together have spent"""
    model: FetchedModel | None = None
    """What was found out about the model when it was fetched"""
    pools: tuple[PoolStatus, ...] = Field(default=(), json_schema_extra=keyed_by("name"))
    """How far each node pool is and what was found for it"""
