"""Sizes of models under each scheme, by what they are made of."""

from dataclasses import replace
from typing import Any

import pytest
from tests.optional import present
from tests.unit.search.builders import LLAMA_8B, case, model, nvidia

from haqa_contract import Configuration, Scheme
from haqa_contract.model_facts import KvCache, Matrix, ModelFacts, Role
from haqa_operator.search.memory import memory_of
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.adapters import LoraSlots

QWEN25_7B = LLAMA_8B | {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
}
MIXTRAL_8X7B = LLAMA_8B | {
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN3_30B_A3B = LLAMA_8B | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}
DEEPSEEK_V2_LITE = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "vocab_size": 102400,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (LLAMA_8B, 8_030_261_248),
        (QWEN25_7B, 7_615_616_512),
        (MIXTRAL_8X7B, 46_702_792_704),
        (QWEN3_30B_A3B, 30_532_122_624),
        (DEEPSEEK_V2_LITE, 15_706_484_224),
    ],
    ids=lambda value: value["architectures"][0] if isinstance(value, dict) else None,
)
def test_parameters_are_those_of_the_published_checkpoint(config: dict[str, Any], parameters: int) -> None:
    assert model(config).parameters == pytest.approx(parameters, rel=5e-4)


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [(LLAMA_8B, 131_072), (QWEN25_7B, 57_344), (DEEPSEEK_V2_LITE, 27 * (512 + 64) * 2)],
)
def test_kv_cache_of_a_token(config: dict[str, Any], bytes_per_token: int) -> None:
    profile = model(config)
    assert profile.kv_bytes_per_token() == bytes_per_token
    assert profile.kv_bytes_per_token("fp8") == bytes_per_token / 2


def with_facts(**changes: Any) -> ModelProfile:
    return ModelProfile(model().facts.model_copy(update=changes))


def test_layers_with_a_sliding_window_stop_growing() -> None:
    caches = (KvCache(layers=21, numbers=4096, window=4096), KvCache(layers=21, numbers=4096))
    profile = with_facts(cache=caches)
    assert profile.kv_bytes(1000) == 42 * 1000 * 4096 * 2
    assert profile.kv_bytes(8192) == 21 * (8192 + 4096) * 4096 * 2


def test_states_are_kept_whatever_the_length_and_make_a_hybrid() -> None:
    hybrid = with_facts(state_numbers=10**6)
    assert hybrid.kv_bytes(10) - model().kv_bytes(10) == 2 * 10**6
    assert hybrid.kv_bytes_per_token() == model().kv_bytes_per_token()
    assert model().is_all_attention
    assert not hybrid.is_all_attention
    assert not model(DEEPSEEK_V2_LITE).is_plain_attention


@pytest.mark.parametrize(
    ("scheme", "gib"),
    [("BF16", 14.96), ("W8A8-INT8", 8.46), ("FP8-DYNAMIC", 8.46), ("W4A16", 5.31), ("NVFP4", 5.61), ("MXFP4", 5.41)],
)
def test_weights_of_llama_8b_under_each_scheme(scheme: str, gib: float) -> None:
    assert model().weight_bytes(Scheme(scheme)) / 2**30 == pytest.approx(gib, abs=0.01)


def test_smaller_groups_have_more_scales() -> None:
    sizes = [model().weight_bytes(Scheme.W4A16, group) for group in (-1, 128, 64, 32)]
    assert sizes == sorted(sizes)
    assert model().weight_bytes(Scheme.W4A16_ASYM) > model().weight_bytes(Scheme.W4A16)


def test_float32_takes_twice_the_memory_and_a_float32_checkpoint_is_served_in_16_bit() -> None:
    profile = model(torch_dtype="float32")
    sixteen = profile.configured_weight_bytes(Configuration.of())
    assert profile.configured_weight_bytes(Configuration.of(dtype="float32")) == 2 * sixteen
    assert sixteen == model().weight_bytes(Scheme.BF16)


def test_token_passes_through_the_chosen_experts_only() -> None:
    mixture, dense = model(QWEN3_30B_A3B), model()
    assert mixture.other_parameters + mixture.active_matrix_parameters == pytest.approx(3.35e9, rel=0.01)
    assert dense.other_parameters + dense.active_matrix_parameters == dense.parameters
    routed = 2 * sum(linear.parameters for linear in mixture.linears if linear.routed)
    assert mixture.routed_bytes(Configuration()) == routed
    assert dense.routed_bytes(Configuration()) == 0


EMBEDDING = 128256 * 4096


def test_step_of_decoding_reads_no_table_and_no_tower() -> None:
    plain = model()
    assert plain.weight_bytes(Scheme.BF16) - plain.weight_bytes(Scheme.BF16, active=True) == 2 * EMBEDDING
    tied = model(tie_word_embeddings=True)
    assert tied.weight_bytes(Scheme.BF16) == tied.weight_bytes(Scheme.BF16, active=True)
    tower = Matrix(name="visual.qkv", role=Role.VISION, rows=1000, columns=1000, count=30)
    seeing = with_facts(matrices=(*plain.facts.matrices, tower), parameters=plain.parameters + tower.parameters)
    unread = seeing.weight_bytes(Scheme.BF16) - seeing.weight_bytes(Scheme.BF16, active=True)
    assert unread == 2 * (EMBEDDING + tower.parameters)


def test_nothing_is_concluded_where_nothing_is_known() -> None:
    unknown = ModelProfile(ModelFacts(architecture="New", model_type="new", source="nothing", parameters=10**9))
    assert not unknown.is_known
    assert unknown.linears == ()
    assert unknown.kv_bytes(1000) == 0


def test_room_for_adapters_is_that_of_all_slots_at_the_largest_rank() -> None:
    profile = replace(model(LLAMA_8B), adapters=LoraSlots(2, 16, ("q_proj", "down_proj")))
    q_proj, down_proj = 4096 + 4096, 14336 + 4096
    assert profile.adapter_bytes() == 2 * 16 * 2 * 32 * (q_proj + down_proj)
    # The rows of q_proj and the columns of down_proj are cut.
    assert profile.adapter_bytes(tensor=4) == 2 * 16 * 2 * 32 * (4096 + 1024 + 3584 + 4096)
    assert profile.adapter_bytes(compute_bytes=4) == 2 * profile.adapter_bytes()
    everything = replace(profile, adapters=LoraSlots(2, 16, ()))
    assert everything.adapter_bytes() > 2 * profile.adapter_bytes()
    assert model(LLAMA_8B).adapter_bytes() == 0


def test_adapters_of_experts_take_room_for_each_expert() -> None:
    mixture = model(LLAMA_8B, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=512)
    dense = replace(mixture, adapters=LoraSlots(1, 8, ("gate_proj", "up_proj", "down_proj")))
    experts = replace(mixture, adapters=LoraSlots(1, 8, ("experts",)))
    assert dense.adapter_bytes() == 0, "an adapter names experts as a whole"
    assert experts.adapter_bytes() == 8 * 2 * 32 * 8 * 3 * (4096 + 512)
    assert experts.adapter_bytes(data=4) == experts.adapter_bytes() / 4


def test_adapters_are_part_of_the_memory_that_weights_take() -> None:
    beside = replace(model(LLAMA_8B), adapters=LoraSlots(8, 256, ()))
    alone, shared = (present(memory_of(case(nvidia(), "BF16", profile=one))) for one in (model(LLAMA_8B), beside))
    assert shared.weights_gib - alone.weights_gib == pytest.approx(beside.adapter_bytes() / 2**30)
    assert shared.kv_gib < alone.kv_gib
