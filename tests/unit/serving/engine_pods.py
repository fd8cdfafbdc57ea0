"""Engines' pods and a measurement, as the builders of manifests are given them."""

from __future__ import annotations

from typing import Any

from haqa_contract import Configuration, Estimate
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.deployment import Provenance
from haqa_operator.serving.images import engine_image
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.pod import EnginePod
from haqa_operator.serving.volumes import (
    MODEL_MOUNT,
    ClaimVolume,
    Fetching,
    HostPathVolume,
    LinkedVolume,
    ModelVolume,
    SecretVariable,
)

CPU = Accelerator(vendor=Vendor.CPU, product="a CPU", memory_gib=24, cores=2)
L40S = Accelerator(vendor=Vendor.NVIDIA, product="NVIDIA-L40S", count=2, memory_gib=48, compute_capability=(8, 9))
MI300X = Accelerator(vendor=Vendor.AMD, product="MI300X", memory_gib=192)
ARC = Accelerator(vendor=Vendor.INTEL, product="Arc Pro B70", memory_gib=32)
GAUDI = Accelerator(vendor=Vendor.INTEL, product="Gaudi3", memory_gib=128)

VOLUMES: dict[str, ModelVolume] = {
    "claim": ClaimVolume("artifacts", "sha256/3fa1"),
    "host": HostPathVolume("/var/models/demo"),
    "linked": LinkedVolume("artifacts", target="/store/cache/hub/snapshots/1"),
    "fetched": LinkedVolume(
        fetching=Fetching(
            "example/haqa-runner:0.1.0",
            ("fetch", "--store", "s3://models/demo", "--digest", "3fa1"),
            {"AWS_ENDPOINT_URL": "https://s3.example"},
            (SecretVariable("AWS_SECRET_ACCESS_KEY", "store", "secret"),),
        )
    ),
}


def make_pod(
    accelerator: Accelerator = CPU,
    configuration: Configuration | None = None,
    model: ModelVolume = VOLUMES["claim"],
    image: str | None = None,
    **more: Any,
) -> EnginePod:
    configuration = configuration or Configuration.of("W8A8-INT8", "smoothquant-gptq", max_num_seqs=64)
    launch = engine_launch(configuration, accelerator, model_path=MODEL_MOUNT, served_model_name="demo")
    return EnginePod(launch, accelerator, image or engine_image(accelerator), model, **more)


def provenance(**more: Any) -> Provenance:
    configuration = Configuration.of("W8A8-INT8", "smoothquant-gptq", max_num_seqs=64)
    return Provenance("demo", "demo-here-003", "here", configuration, **more)


MEASURED = provenance(
    metrics={
        "throughput": Estimate(value=331.24987, low=325.1, high=337.4, n=3),
        "perplexity": Estimate(value=12.41, low=12.1, high=12.7, n=32),
    },
    artifact_digest="sha256:3fa1",
    engine_version="0.32.0",
)
