"""A trial of a tuning, as the request that its runner reads. Pure: the same for processes and for pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from haqa_contract import (
    AcceleratorVendor,
    AccuracyGate,
    AdapterSource,
    EngineLaunch,
    ModelSource,
    TrialRequest,
    VariantSource,
)
from haqa_operator.api import Constraint, Trial, TuningSpec
from haqa_operator.api.metrics import higher_is_better, is_accuracy
from haqa_operator.api.pools import ModelAdapter, ModelSpec, ModelVariant
from haqa_operator.decision.constraints import measured_baseline
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.tuning.load_gates import load_gates

_COMMIT = "commit-"
"""How the digest of what comes from a hub begins."""


@dataclass(frozen=True)
class TrialPlaces:
    """Where a trial reads and writes, as its own containers or processes see it.

    Attributes:
        store: Artifact store (folder or s3:// URI).
        directory: The trial's own folder.
        cache: Folder for fetched models.
        reference: The baseline's next-token distributions.
        reports: Folder in the store for the trials' reports; None: they stay in the trials' own folders.
        mount: Where a pvc:// claim is mounted.
        adapters: Folder for the model's adapters; None: one in the trial's own.
    """

    store: str
    directory: str
    cache: str
    reference: str
    reports: str | None = None
    mount: str | None = None
    adapters: str | None = None


def model_source(model: ModelSpec, mount: str | None = None) -> ModelSource:
    """The model without its secret: the token's environment variable is named, never its value."""
    token_env = (model.token_secret_ref.env or "HF_TOKEN") if model.token_secret_ref else None
    return ModelSource(
        uri=model.uri,
        revision=model.revision,
        token_env=token_env,
        trust_remote_code=model.trust_remote_code,
        mount=mount,
    )


@dataclass(frozen=True)
class Digests:
    """Which files the tuning has looked at; what comes from a hub is asked for at that commit.

    Attributes:
        model: None where it has not been looked at.
        variants: By label.
        adapters: By name.
    """

    model: str | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)


NOTHING_SEEN = Digests()


def pinned(source: ModelSource, digest: str | None) -> ModelSource:
    """The same files, whatever a branch of the hub holds by now."""
    if digest is None or not digest.startswith(_COMMIT):
        return source
    return source.model_copy(update={"uri": source.uri.partition("@")[0], "revision": digest.removeprefix(_COMMIT)})


def _beside(itself: ModelSource, one: ModelVariant | ModelAdapter, digest: str | None) -> ModelSource:
    """Under the model's own token and trust."""
    return pinned(itself.model_copy(update={"uri": one.uri, "revision": one.revision}), digest)


def variant_sources(
    model: ModelSpec, mount: str | None = None, seen: Digests = NOTHING_SEEN
) -> tuple[VariantSource, ...]:
    """The model's published checkpoints, under the model's own token and trust."""
    itself = model_source(model, mount)
    return tuple(
        VariantSource(
            label=variant.label,
            source=_beside(itself, variant, seen.variants.get(variant.label)),
        )
        for variant in model.variants
    )


def adapter_sources(
    model: ModelSpec, mount: str | None = None, seen: Digests = NOTHING_SEEN
) -> tuple[AdapterSource, ...]:
    """The model's adapters, under the model's own token."""
    itself = model_source(model, mount)
    return tuple(
        AdapterSource(
            name=adapter.name,
            source=_beside(itself, adapter, seen.adapters.get(adapter.name)),
            digest=seen.adapters.get(adapter.name),
        )
        for adapter in model.adapters
    )


def vendor_of(accelerator: Accelerator) -> AcceleratorVendor | None:
    match accelerator.vendor:
        case Vendor.NVIDIA:
            return "nvidia"
        case Vendor.AMD:
            return "amd"
        case Vendor.INTEL:
            return "intel"
        case Vendor.CPU:
            return None


def trial_request(
    spec: TuningSpec,
    trial: Trial,
    earlier: Sequence[Trial],
    launch: EngineLaunch,
    places: TrialPlaces,
    cost_per_hour: float | None = None,
    seen: Digests = NOTHING_SEEN,
    expected_tokens_per_s: float | None = None,
    *,
    accelerator: Accelerator,
) -> TrialRequest:
    """The request for one attempt at a trial.

    Args:
        earlier: The pool's trials so far: what is asked of this one is relative to the baseline and the best of them.
        cost_per_hour: Price of one replica's machines.
        seen: Which files were looked at.
        expected_tokens_per_s: That the engine may reach.
        accelerator: The pool's.
    """
    limit_s = spec.budget.trial_timeout / timedelta(seconds=1)
    return TrialRequest(
        tuning=trial.tuning,
        trial=trial.name,
        pool=trial.pool,
        model=pinned(model_source(spec.model, places.mount), seen.model),
        variants=tuple(
            variant
            for variant in variant_sources(spec.model, places.mount, seen)
            if variant.label == trial.configuration.variant_label
        ),
        adapters=adapter_sources(spec.model, places.mount, seen),
        adapters_directory=places.adapters,
        model_digest=seen.model,
        configuration=trial.configuration,
        quantize_head=spec.search.quantize_head,
        accelerator=vendor_of(accelerator),
        calibration=spec.calibration,
        evaluation=spec.evaluation,
        samples_by_default=tuple(
            name for name in ("calibration", "evaluation") if "samples" not in getattr(spec, name).model_fields_set
        ),
        workload=spec.workload,
        engine=launch,
        # A window that confirms is of a configuration whose accuracy is known, and is measured whatever comes out.
        accuracy=not trial.is_confirmation,
        gates=()
        if trial.is_baseline or trial.is_confirmation
        else accuracy_gates(spec.constraints, measured_baseline(earlier)),
        load_gates=() if trial.is_confirmation else load_gates(spec, trial, earlier, cost_per_hour),
        expected_tokens_per_s=expected_tokens_per_s,
        baseline=trial.is_baseline,
        reference=places.reference,
        store=places.store,
        directory=places.directory,
        cache=places.cache,
        quantize_timeout_s=limit_s,
        measure_timeout_s=limit_s,
    )


def accuracy_gates(constraints: tuple[Constraint, ...], baseline: Trial | None) -> tuple[AccuracyGate, ...]:
    """The constraints that accuracy alone decides, in absolute numbers.

    One that is relative to a baseline without that metric makes no gate: the decision reports it instead.
    """
    gates = (_gate(constraint, baseline) for constraint in constraints if is_accuracy(constraint.metric))
    return tuple(gate for gate in gates if gate is not None)


def _gate(constraint: Constraint, baseline: Trial | None) -> AccuracyGate | None:
    if constraint.max_degradation_percent is None:
        return AccuracyGate(metric=constraint.metric, min=constraint.min, max=constraint.max)
    reference = baseline.status.metrics.get(constraint.metric) if baseline else None
    if reference is None:
        return None
    share = constraint.max_degradation_percent / 100
    if higher_is_better(constraint.metric):
        return AccuracyGate(metric=constraint.metric, min=reference.value * (1 - share))
    return AccuracyGate(metric=constraint.metric, max=reference.value * (1 + share))
