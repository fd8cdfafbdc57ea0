"""Models, machines and cases for the search's tests."""

from __future__ import annotations

from typing import Any

from tests.builders import make_trial
from tests.model_headers import facts

from haqa_contract import Configuration, FailureReason, Scalar, Workload
from haqa_operator.decision.observations import Observation
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.catalogue import completed
from haqa_operator.search.cases import Case
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.space import SearchSpace
from haqa_operator.serving.versions import parse_version

VLLM = "0.32.0"

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

LLAMA_SMALL: dict[str, Any] = LLAMA_8B | {
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 2816,
    "vocab_size": 4096,
    "max_position_embeddings": 2048,
}


def model(config: dict[str, Any] = LLAMA_8B, **changes: Any) -> ModelProfile:
    return ModelProfile(facts(config | changes))


def nvidia(product: str = "NVIDIA-L40S", count: int = 1, **fields: Any) -> Accelerator:
    return completed(Accelerator(Vendor.NVIDIA, product, count=count, **fields))


def gpu_of(major: int, minor: int, memory_gib: float = 80) -> Accelerator:
    """A GPU of which nothing but its compute capability and memory is known."""
    return Accelerator(Vendor.NVIDIA, "GPU", memory_gib=memory_gib, compute_capability=(major, minor))


def amd(product: str) -> Accelerator:
    return completed(Accelerator(Vendor.AMD, product))


def gaudi(product: str = "Gaudi3") -> Accelerator:
    return completed(Accelerator(Vendor.INTEL, product))


def cpu(isa: str | None = "avx512_vnni", memory_gib: float | None = 64, onednn_cap: str | None = None) -> Accelerator:
    return Accelerator(Vendor.CPU, "Xeon", memory_gib=memory_gib, isa=isa, onednn_cap=onednn_cap, cores=16)


def case(
    accelerator: Accelerator,
    scheme: str = "BF16",
    algorithm: str | None = None,
    group_size: int | None = None,
    *,
    profile: ModelProfile | None = None,
    workload: Workload | None = None,
    vllm: str = VLLM,
    env: dict[str, str] | None = None,
    **engine: Scalar,
) -> Case:
    algorithm = algorithm or ("none" if scheme == "BF16" else "rtn")
    configuration = Configuration.of(scheme, algorithm, group_size, **engine)
    return Case(accelerator, profile, configuration, workload or Workload(), parse_version(vllm), env=env or {})


def observed(number: int, configuration: Configuration, score: float | None, violation: float = 0.0) -> Observation:
    trial = make_trial(number).of(configuration)
    if score is None:
        trial = trial.failed(FailureReason.ENGINE_LOAD_FAILED)
        violation = float("inf")
    return Observation(trial.obj(), score, violation)


def space_of(*configurations: Configuration, baseline: Configuration | None = None) -> SearchSpace:
    return SearchSpace(baseline or Configuration(), configurations)
