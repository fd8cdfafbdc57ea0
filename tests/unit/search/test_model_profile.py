"""Sizes of real models, from their config.json alone."""

from typing import Any

import pytest
from tests.unit.search.builders import LLAMA_8B, model

from haqa_contract import Configuration, Scheme
from haqa_operator.search.model_profile import ModelProfile, ModelProfileError

QWEN25_7B = LLAMA_8B | {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
MIXTRAL_8X7B = LLAMA_8B | {
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
GEMMA2_9B = {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "hidden_size": 3584,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "intermediate_size": 14336,
    "vocab_size": 256000,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
}
PHI3_MINI = LLAMA_8B | {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_key_value_heads": 32,
    "intermediate_size": 8192,
    "vocab_size": 32064,
}
PHI2 = LLAMA_8B | {
    "architectures": ["PhiForCausalLM"],
    "hidden_size": 2560,
    "num_key_value_heads": 32,
    "intermediate_size": 10240,
    "vocab_size": 51200,
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
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
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
    "q_lora_rank": None,
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
        (GEMMA2_9B, 9_241_705_984),
        (PHI3_MINI, 3_821_079_552),
        (PHI2, 2_779_683_840),
        (QWEN3_30B_A3B, 30_532_122_624),
        (DEEPSEEK_V2_LITE, 15_706_484_224),
    ],
    ids=lambda value: value["architectures"][0] if isinstance(value, dict) else None,
)
def test_parameters_are_those_of_the_published_checkpoint(config: dict[str, Any], parameters: int) -> None:
    assert ModelProfile.from_config(config).parameters == pytest.approx(parameters, rel=5e-4)


def test_checkpoint_size_sharpens_the_count() -> None:
    profile = ModelProfile.from_config(QWEN25_7B, weight_bytes=2 * 7_615_616_512)
    assert profile.parameters == 7_615_616_512


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [(LLAMA_8B, 131_072), (QWEN25_7B, 57_344), (DEEPSEEK_V2_LITE, 27 * (512 + 64) * 2)],
)
def test_kv_cache_of_a_token(config: dict[str, Any], bytes_per_token: int) -> None:
    profile = ModelProfile.from_config(config)
    assert profile.kv_bytes_per_token() == bytes_per_token
    assert profile.kv_bytes_per_token("fp8") == bytes_per_token / 2


def test_layers_with_a_sliding_window_stop_growing() -> None:
    profile = ModelProfile.from_config(GEMMA2_9B)
    per_layer = 2 * 8 * 256 * 2
    assert profile.kv_bytes(1000) == 42 * 1000 * per_layer
    assert profile.kv_bytes(8192) == 21 * (8192 + 4096) * per_layer


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
    mixture, dense = ModelProfile.from_config(QWEN3_30B_A3B), model()
    assert mixture.other_parameters + mixture.active_matrix_parameters == pytest.approx(3.35e9, rel=0.01)
    assert dense.other_parameters + dense.active_matrix_parameters == dense.parameters


def test_shapes_have_the_names_that_the_model_gives_them() -> None:
    shapes = {linear.name: (linear.rows, linear.columns) for linear in model().linears}
    assert shapes == {
        "q_proj": (4096, 4096),
        "k_proj": (1024, 4096),
        "v_proj": (1024, 4096),
        "o_proj": (4096, 4096),
        "gate_proj": (14336, 4096),
        "up_proj": (14336, 4096),
        "down_proj": (4096, 14336),
    }
    fused = {linear.name for linear in ModelProfile.from_config(PHI3_MINI).linears}
    assert fused == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    plain = {linear.name for linear in ModelProfile.from_config(PHI2).linears}
    assert plain == {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}


def test_config_of_a_multimodal_model_has_its_text_part_inside() -> None:
    nested = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": GEMMA2_9B | {"architectures": None}}
    assert ModelProfile.from_config(nested).hidden_size == 3584


def test_quantized_checkpoint_is_refused() -> None:
    with pytest.raises(ModelProfileError, match=r"already quantized \(quant_method gptq.*give the unquantized model"):
        model(quantization_config={"quant_method": "gptq", "bits": 4})


def test_missing_field_is_named() -> None:
    with pytest.raises(ModelProfileError, match=r"config\.json: hidden_size is None"):
        ModelProfile.from_config({"architectures": ["LlamaForCausalLM"]})


HYBRID = LLAMA_8B | {"architectures": ["NewForCausalLM"], "layer_types": ["linear_attention", "full_attention"] * 16}


def test_unknown_layers_need_the_size_of_the_checkpoint() -> None:
    with pytest.raises(ModelProfileError, match="NewForCausalLM: its layers are not known here"):
        ModelProfile.from_config(HYBRID)
    profile = ModelProfile.from_config(HYBRID, weight_bytes=16 * 10**9)
    assert profile.linears == ()
    assert profile.kv_bytes(1000) == 0
    assert profile.weight_bytes(Scheme.BF16) == 16 * 10**9
