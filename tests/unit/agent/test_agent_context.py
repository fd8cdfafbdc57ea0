from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from haqa_operator.agent.context import AgentContext, context_for, model_name
from haqa_operator.api.pools import ModelSpec, NodePool
from haqa_operator.api.search_spec import AgentSpec, Search
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.catalogue import completed


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


def in_context(accelerator: Accelerator, **search: Any) -> AgentContext:
    pool = NodePool(name="p")
    spec = TuningSpec(model=ModelSpec(uri="hf://a/b"), node_pools=(pool,), search=Search(**search))
    return context_for(spec, pool, accelerator, engine="vLLM", notes=("the prior's",))


def test_rates_and_links_come_from_the_data_sheets() -> None:
    context = in_context(completed(Accelerator(Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3", count=2)))
    assert context.rates == {"BF16": 989, "INT8": 1979, "FP8": 1979, "FP4": None}
    assert context.interconnect == "NVLink, 900 GB/s for each, both directions together"
    assert in_context(completed(Accelerator(Vendor.NVIDIA, "Tesla-T4"))).rates["FP16"] == 65


def test_a_part_of_a_device_has_its_share_of_the_rates_and_no_links() -> None:
    part = completed(Accelerator(Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", count=2, memory_gib=9.6))
    assert in_context(part).rates["BF16"] == pytest.approx(989 / 7)
    assert in_context(part).interconnect is None


@pytest.mark.parametrize(
    "accelerator",
    [
        Accelerator(Vendor.CPU, "Intel Xeon L4"),
        Accelerator(Vendor.NVIDIA, "NVIDIA-X9000"),
    ],
)
def test_nothing_is_said_of_rates_that_nobody_knows(accelerator: Accelerator) -> None:
    assert in_context(completed(accelerator)).rates == {}


def test_one_accelerator_has_nothing_to_be_joined_with() -> None:
    assert in_context(Accelerator(Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3")).interconnect is None


def test_the_users_notes_come_first() -> None:
    agent = AgentSpec(model="openai/x", notes=("prompts share a long beginning",))
    context = in_context(Accelerator(Vendor.CPU, "Xeon"), agent=agent)
    assert context.notes == ("prompts share a long beginning", "the prior's")


@pytest.mark.parametrize(
    ("changes", "closed"),
    [
        ({}, True),
        ({"replayed": True}, True),
        ({"replayed": True, "load": "concurrency: requests in flight at once"}, True),
        ({"replayed": True, "load": "rate: requests a second, open loop"}, False),
    ],
)
def test_little_s_law_is_for_closed_loops(changes: dict[str, Any], closed: bool) -> None:
    assert replace(in_context(Accelerator(Vendor.CPU, "Xeon")), **changes).closed_loop is closed


def test_what_looks_like_a_credential_is_not_sent_to_a_provider() -> None:
    pool = NodePool(name="p", env={"AWS_SECRET_ACCESS_KEY": "abc", "DB_PASSWORD": "def"})
    spec = TuningSpec(model=ModelSpec(uri="hf://a/b"), node_pools=(pool,))
    context = context_for(spec, pool, Accelerator(Vendor.CPU, "Xeon"), engine="vLLM")
    assert not {"abc", "def"} & {value for _, value in context.fixed_settings}
