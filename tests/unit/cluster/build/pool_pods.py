"""Pods of a pool, built as the operator builds them."""

from __future__ import annotations

from typing import Any

from tests.unit.serving.kubernetes_fields import assert_fits
from tests.unit.tuning.pool_states import INT8, trial

from haqa_operator.api import NodePool, Trial, TuningSpec
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import FetchedModel
from haqa_operator.cluster.build.pool_manifests import PoolManifests
from haqa_operator.cluster.installation import Installation
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.volumes import SecretVariable

INSTALLATION = Installation(
    runner_image="example/runner:1",
    runner_env={"AWS_ENDPOINT_URL": "https://s3.example"},
    runner_secrets=(SecretVariable("AWS_SECRET_ACCESS_KEY", "bucket", "key"),),
)
DIGEST = "3fa1" * 16


def quantized() -> Trial:
    done = trial(1, INT8, 150)
    return done.model_copy(update={"status": done.status.model_copy(update={"artifact_digest": DIGEST})})


def hub(digest: str = "commit-abc") -> FetchedModel:
    return FetchedModel(digest=digest, path="/store/cache/hub/x")


L40S = Accelerator(Vendor.NVIDIA, "NVIDIA-L40S", count=2, memory_gib=45, compute_capability=(8, 9))
MI300X = Accelerator(Vendor.AMD, "MI300X", memory_gib=192, architecture="gfx942")
CPU = Accelerator(Vendor.CPU, "a CPU", memory_gib=24, cores=2)

TEMPLATE_FIELDS = (
    "runtimeClassName",
    "priorityClassName",
    "serviceAccountName",
    "imagePullSecrets",
    "schedulerName",
    "affinity",
)


def built(
    accelerator: Accelerator, model: FetchedModel | None = None, measured: Trial | None = None, **pool: Any
) -> dict[str, Manifest]:
    """The pod templates of a pool by what they are for."""
    given = NodePool.model_validate({"name": "gpu", "nodeSelector": {"pool": "gpu"}} | pool)
    spec = {"model": {"uri": "hf://org/name"}, "nodePools": [{"name": "gpu"}], "artifacts": {"pvc": "artifacts"}}
    pods = PoolManifests(
        "team", "demo", TuningSpec.model_validate(spec), given, accelerator, INSTALLATION, model=model or hub()
    )
    jobs = {"trial": pods.trial_job(measured or quantized(), (), 1, {}), "model": pods.model_job(1, {})}
    deployment, *_ = pods.winner(measured or quantized())
    assert_fits(deployment, "V1Deployment")
    for job in jobs.values():
        assert_fits({name: value for name, value in job.items() if name != "metadata"}, "V1Job")
    return {name: one["spec"]["template"] for name, one in {**jobs, "winner": deployment}.items()}
