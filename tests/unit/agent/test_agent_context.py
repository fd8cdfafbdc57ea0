from __future__ import annotations

import pytest

from haqa_operator.agent.context import context_for, model_name
from haqa_operator.api.pools import ModelSpec, NodePool
from haqa_operator.api.search_spec import Search
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.hardware.accelerators import Accelerator, Vendor


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("hf://org/name", "org/name"),
        ("file:///srv/secret-project/llama", "llama"),
        ("s3://internal-bucket/a/b/", "b"),
        ("pvc://claim/models/x", "x"),
    ],
)
def test_the_model_is_named_without_the_folders_around_it(uri: str, name: str) -> None:
    assert model_name(uri) == name


def test_a_tuning_and_a_pool_make_a_context() -> None:
    pool = NodePool(name="l40s", env={"HF_TOKEN": "hf_abc", "VLLM_X": "1"}, cost_per_hour=2.5)
    spec = TuningSpec(
        model=ModelSpec(uri="hf://org/name"),
        node_pools=(pool,),
        search=Search(fixed_engine={"enforce-eager": True}),
    )
    accelerator = Accelerator(Vendor.NVIDIA, "NVIDIA-L40S", count=2, memory_gib=48, bandwidth_gb_s=864)
    context = context_for(spec, pool, accelerator, engine="vLLM 0.32.0", notes=("n",))
    assert context.hardware == "2 x NVIDIA-L40S, 48 GiB, 864 GB/s"
    assert context.bandwidth_gb_s == 1728
    assert context.accelerators == 2
    assert context.model.name == "org/name"
    assert dict(context.fixed_settings) == {
        "HF_TOKEN": "(set, not shown)",
        "VLLM_X": "1",
        "enforce-eager": True,
    }


def test_what_looks_like_a_credential_is_not_sent_to_a_provider() -> None:
    pool = NodePool(name="p", env={"AWS_SECRET_ACCESS_KEY": "abc", "DB_PASSWORD": "def"})
    spec = TuningSpec(model=ModelSpec(uri="hf://a/b"), node_pools=(pool,))
    context = context_for(spec, pool, Accelerator(Vendor.CPU, "Xeon"), engine="vLLM")
    assert not {"abc", "def"} & {value for _, value in context.fixed_settings}
