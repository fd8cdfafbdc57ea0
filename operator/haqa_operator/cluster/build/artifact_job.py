"""Jobs of the runner alone: one makes an artifact before any pod takes the accelerators that shall serve it, the other
scores a model that they cannot serve."""

from __future__ import annotations

import math
from dataclasses import replace

from haqa_contract import Configuration
from haqa_contract.model_facts import ModelFacts
from haqa_contract.quantizing import activation_bytes, whole_model_bytes
from haqa_operator.api.labels import ARTIFACT_LABEL, ASKED_BY_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.build.trial_job import TrialPod, build_runner_job
from haqa_operator.cluster.names import REFERENCE, artifact_job_name, job_name
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.pod import Resources, default_resources

_GIB = 2**30
_SPARE = _GIB
"""Beside what quantizing was measured to take."""
_NODE_SHARE = 0.75
"""Of the node's memory that plain rounding asks for at most: a model that needs more is rounded file by file."""
_LEAST = 8 * _GIB
_DISK_COPIES = 2.2
"""The model and the artifact, which is smaller, beside each other."""


def build_artifact_job(pod: TrialPod, artifact: str, asked_by: str, facts: ModelFacts | None) -> Manifest:
    """One container, with one accelerator where calibration is worth one, and none for plain rounding.

    Args:
        pod: Its request is the one of the trial that asks, under the name `ARTIFACT_TRIAL`.
        artifact: `artifact_name`.
        asked_by: Name of that trial, which the time is put down to.
        facts: Of the model; None where they are not known.
    """
    accelerator, configuration = pod.engine.accelerator, pod.request.configuration
    devices = 0 if accelerator.is_cpu or not configuration.calibrated else 1
    resources = quantize_resources(
        configuration,
        accelerator,
        facts,
        samples=pod.request.calibration.samples * pod.request.calibration.sequence_length,
        keeps_files=pod.request.store.startswith("s3://"),
    )
    job = build_runner_job(
        pod,
        component="artifact",
        name=artifact_job_name(pod.request.tuning, artifact, pod.attempt),
        resources=resources,
        devices=devices,
    )
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"] = metadata["labels"] | {ARTIFACT_LABEL: artifact}
    job["metadata"]["annotations"] = {ASKED_BY_ANNOTATION: asked_by}
    return job


def build_reference_job(pod: TrialPod, facts: ModelFacts | None) -> Manifest:
    """The trial of a baseline that no replica holds: scored on one accelerator, most of it in memory or on disk."""
    return build_runner_job(
        pod,
        component="trial",
        name=job_name(pod.request.trial, pod.attempt),
        resources=quantize_resources(
            Configuration(),
            pod.engine.accelerator,
            facts,
            samples=0,
            keeps_files=pod.request.store.startswith("s3://"),
        ),
        devices=0 if pod.engine.accelerator.is_cpu else 1,
        step=REFERENCE,
    )


def quantize_resources(
    configuration: Configuration,
    accelerator: Accelerator,
    facts: ModelFacts | None,
    *,
    samples: int,
    keeps_files: bool,
) -> Resources:
    """What quantizing, or scoring, asks for beside an accelerator.

    Args:
        samples: Tokens of calibration text.
        keeps_files: Model and artifact lie on the pod's own disk, and not on a claim.
    """
    usual = default_resources(replace(accelerator, count=1))
    weights = facts.weight_bytes if facts else None
    if facts is None or not weights:
        return usual
    disk = _gibibytes(_DISK_COPIES * weights + _GIB) if keeps_files else None
    if accelerator.is_cpu:
        return replace(usual, ephemeral_storage=disk)
    needed = max(_LEAST, whole_model_bytes(weights) + _SPARE)
    if configuration.calibrated:
        needed += activation_bytes(samples, facts.hidden_size)
        return replace(usual, memory=_gibibytes(needed), ephemeral_storage=disk)
    # Its share of the node is what may be had for certain; a limit, so that the runner knows what there is.
    share = (accelerator.host_memory_gib or 0) * accelerator.count * _NODE_SHARE * _GIB
    memory = _gibibytes(min(needed, max(share, _LEAST)) if share else needed)
    return replace(usual, memory=memory, memory_limit=memory, ephemeral_storage=disk)


def _gibibytes(size: float) -> str:
    return f"{math.ceil(size / _GIB)}Gi"
