"""The Job that makes an artifact: what it asks for follows from the model, and it takes no accelerator that idles."""

from dataclasses import replace
from typing import Any

import pytest
from tests.model_headers import facts
from tests.unit.cluster.observe.pods import CLAIM, CPU, make_request, make_trial_pod
from tests.unit.serving.kubernetes_fields import assert_fits

from haqa_contract import Calibration, Configuration
from haqa_contract.model_facts import ModelFacts
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.tuning import Artifacts
from haqa_operator.cluster.build.artifact_job import build_artifact_job, quantize_resources
from haqa_operator.cluster.build.trial_job import trial_volume
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.images import engine_image
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.pod import EnginePod, default_resources
from haqa_operator.serving.volumes import MODEL_MOUNT

L40S = Accelerator(
    Vendor.NVIDIA, "NVIDIA-L40S", count=4, memory_gib=48, compute_capability=(8, 9), host_cores=16, host_memory_gib=64
)
BUCKET = Artifacts(s3="s3://models/haqa/")
ROUNDED, CALIBRATED = Configuration.of("W4A16", "rtn"), Configuration.of("W4A16", "gptq")
LLAMA_70B = facts(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "dtype": "bfloat16",
    }
).model_copy(update={"weight_bytes": 141_000_000_000})


def made(
    configuration: Configuration,
    accelerator: Accelerator = L40S,
    artifacts: Artifacts = CLAIM,
    known: ModelFacts | None = LLAMA_70B,
) -> Manifest:
    launch = engine_launch(configuration, accelerator, model_path=MODEL_MOUNT, served_model_name="demo")
    engine = EnginePod(launch, accelerator, engine_image(accelerator), trial_volume(artifacts, None))
    request = make_request("quantize", artifacts=artifacts, uri="hf://org/name").model_copy(
        update={"configuration": configuration, "calibration": Calibration(samples=512, sequence_length=2048)}
    )
    owner = {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationTuning", "name": "demo", "uid": "u"}
    pod = make_trial_pod(request, artifacts, engine=engine, owner=owner)
    return build_artifact_job(pod, "0123456789", "demo-here-003", known)


def resources(job: Manifest) -> dict[str, dict[str, str]]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, dict[str, str]] = container["resources"]
    return found


def gib(quantity: str) -> float:
    return float(quantity.removesuffix("Gi"))


def test_calibration_has_one_accelerator_whatever_the_replica_has() -> None:
    assert resources(made(CALIBRATED))["limits"]["nvidia.com/gpu"] == "1"


def test_plain_rounding_has_none() -> None:
    assert not any("nvidia" in name for part in resources(made(ROUNDED)).values() for name in part)
    assert resources(made(Configuration.of("NVFP4", "rtn")))["limits"]["nvidia.com/gpu"] == "1", "it calibrates"


def test_memory_is_what_the_whole_model_takes() -> None:
    asked = gib(resources(made(CALIBRATED))["requests"]["memory"])
    activations = 512 * 2048 * 8192 * 2 * 3 / 2**30
    assert asked == pytest.approx(1.8 * 141e9 / 2**30 + activations + 2, abs=1)
    assert "memory" not in resources(made(CALIBRATED))["limits"]


def test_plain_rounding_makes_do_with_its_share_of_the_node() -> None:
    """Where the model does not fit, it is rounded file by file."""
    found = resources(made(ROUNDED))
    assert gib(found["requests"]["memory"]) == 4 * 64 * 0.75
    assert found["limits"]["memory"] == found["requests"]["memory"], "so that the runner knows"
    small = LLAMA_70B.model_copy(update={"weight_bytes": 16_000_000_000})
    assert gib(resources(made(ROUNDED, known=small))["requests"]["memory"]) == 29


@pytest.mark.parametrize(("artifacts", "asked"), [(CLAIM, False), (BUCKET, True)])
def test_disk_is_asked_for_where_files_lie_on_the_pods_own(artifacts: Artifacts, asked: bool) -> None:
    found = resources(made(ROUNDED, artifacts=artifacts))["requests"].get("ephemeral-storage")
    assert (found is not None) is asked
    assert found is None or 2 * 141e9 / 2**30 < gib(found) < 2.4 * 141e9 / 2**30


@pytest.mark.parametrize("known", [None, LLAMA_70B.model_copy(update={"weight_bytes": None})])
def test_of_an_unknown_model_the_usual_is_asked_for(known: ModelFacts | None) -> None:
    usual = default_resources(replace(L40S, count=1))
    assert resources(made(CALIBRATED, known=known))["requests"]["memory"] == usual.memory


def test_on_a_processor_it_has_what_the_engine_would_have() -> None:
    usual = default_resources(CPU)
    for configuration in (ROUNDED, CALIBRATED):
        found = quantize_resources(configuration, CPU, LLAMA_70B, samples=4096, keeps_files=False)
        assert (found.memory, found.memory_limit) == (usual.memory, usual.memory_limit)


def test_it_belongs_to_the_tuning_and_says_what_it_makes_and_for_whom() -> None:
    metadata = made(CALIBRATED)["metadata"]
    assert metadata["name"] == "demo-quantize-0123456789"
    assert [owner["kind"] for owner in metadata["ownerReferences"]] == ["QuantizationTuning"]
    assert (
        metadata["labels"] | {"haqa.dev/component": "artifact", "haqa.dev/artifact": "0123456789"}
        == (metadata["labels"])
    )
    assert metadata["annotations"] == {"haqa.dev/asked-by": "demo-here-003"}


@pytest.mark.parametrize("job", [made(CALIBRATED), made(ROUNDED, artifacts=BUCKET), made(ROUNDED, CPU)])
def test_the_api_server_knows_every_field(job: Any) -> None:
    assert_fits(job, "V1Job")
