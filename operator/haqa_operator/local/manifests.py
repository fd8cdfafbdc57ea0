"""The winner of a pool as manifests: with the arguments that were measured, and nothing else changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from haqa_contract import Configuration, EngineLaunch
from haqa_operator.api import NodePool, QuantizationTuning, Trial
from haqa_operator.decision.results import PoolResult, Verdict
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.hardware.this_machine import detect
from haqa_operator.serving.deployment import Provenance, build_deployment, build_service, deployment_name, render_yaml
from haqa_operator.serving.images import pool_engine, pool_image
from haqa_operator.serving.launch import ENGINE_PORT, relocated
from haqa_operator.serving.pod import EnginePod
from haqa_operator.serving.versions import dotted, release_of
from haqa_operator.serving.volumes import ADAPTERS_MOUNT, MODEL_MOUNT, AdaptersVolume, ClaimVolume, artifact_volume

LOCAL_CLAIM = "haqa-artifacts"
"""Claim that a manifest made on one machine names; the artifact has to be copied into it."""

_ADAPTERS = "adapters"
"""Folder of that claim in which the model's adapters lie, a folder each."""


def winner_manifest(tuning: QuantizationTuning, result: PoolResult) -> str | None:
    """Deployment and Service in YAML; None where there is nothing worth serving."""
    winner = next((trial for trial in result.trials if trial.name == result.decision.winner), None)
    pool = next((pool for pool in tuning.spec.node_pools if pool.name == result.pool), None)
    served = result.decision.verdict in (Verdict.WINNER, Verdict.BASELINE_BEST)
    if winner is None or pool is None or not served or not winner.status.engine_args:
        return None
    accelerator = replace(pool_accelerator(pool), resource=pool.device_resource)
    measured = EngineLaunch(
        args=winner.status.engine_args,
        env=winner.status.engine_env,
        served_model_name=tuning.metadata.name,
        port=ENGINE_PORT,
    )
    adapters = {adapter.name: f"{ADAPTERS_MOUNT}/{adapter.name}" for adapter in tuning.spec.model.adapters}
    launch = relocated(measured, MODEL_MOUNT, adapters=adapters)
    claim = tuning.spec.artifacts.pvc if tuning.spec.artifacts and tuning.spec.artifacts.pvc else LOCAL_CLAIM
    digest = winner.status.artifact_digest if winner.configuration.made else None
    pod = EnginePod(
        launch=launch,
        accelerator=accelerator,
        image=pool_image(pool, accelerator, _version(pool, winner)),
        model=artifact_volume(claim, digest) if digest else ClaimVolume(claim),
        node_selector=dict(pool.node_selector),
        tolerations=pool.tolerations,
        template=pool.pod_template,
        claim_template=pool.resource_claim_template,
        adapters=AdaptersVolume(lies_in=ClaimVolume(claim, _ADAPTERS)) if adapters else None,
    )
    provenance = Provenance.of(winner)
    deployment = tuning.spec.output.deployment
    name = deployment.name or deployment_name(tuning.metadata.name, pool.name)
    namespace = tuning.metadata.namespace
    comment = (
        f"{winner.configuration.describe()}: {result.decision.reason}\n"
        f"{_what(tuning, winner.configuration, digest)} is expected in the claim {claim}"
        f"{_with_adapters(adapters)}."
    )
    return render_yaml(
        [
            build_deployment(pod, provenance, name=name, namespace=namespace, replicas=deployment.replicas),
            build_service(pod, provenance, name=name, namespace=namespace),
        ],
        comment,
    )


def _version(pool: NodePool, winner: Trial) -> str:
    """The one that was measured, unless the pool asks for another."""
    measured = release_of(winner.status.engine_version)
    return dotted(measured) if measured and pool.engine_version is None else pool_engine(pool).text


def _with_adapters(names: Iterable[str]) -> str:
    folders = ", ".join(f"{_ADAPTERS}/{name}" for name in names)
    return f", and the model's adapters as {folders}" if folders else ""


def _what(tuning: QuantizationTuning, served: Configuration, digest: str | None) -> str:
    if digest:
        return f"artifacts/{digest}/model of the store"
    variants = {variant.label: variant.uri for variant in tuning.spec.model.variants}
    return f"The model {variants.get(served.variant_label or '', tuning.spec.model.uri)}"


def pool_accelerator(pool: NodePool) -> Accelerator:
    """This machine as the pool sees it."""
    return detect({**os.environ, **pool.env}, pool.hardware, gpus_per_replica=pool.gpus_per_replica)
