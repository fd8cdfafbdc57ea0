"""Which modifiers make which configuration, and what is refused before any work."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract import Algorithm, Configuration, FailureReason, Scheme
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import CheckpointFormat, Matrix, ModelFacts, Role, with_head
from haqa_runner.quantize.recipes import (
    Modifier,
    ModifierPlan,
    is_artifacts_own,
    recipe,
)


def linear(name: str, rows: int, columns: int, role: Role = Role.MLP, *, rounded: bool = True) -> Matrix:
    return Matrix(name=name, role=role, rows=rows, columns=columns, count=1, rounded=rounded)


LLAMA = ModelFacts(
    architecture="LlamaForCausalLM",
    model_type="llama",
    source="class",
    parameters=5 * 10**7,
    matrices=(linear("self_attn.q_proj", 1024, 1024), linear("mlp.down_proj", 1024, 2816)),
    weight_bytes=10**8,
    layers=1,
    hidden_size=1024,
)


def facts(**changes: Any) -> ModelFacts:
    return LLAMA.model_copy(update=changes)


def made(scheme: Scheme, algorithm: Algorithm, group_size: int | None = None, **engine: str) -> list[ModifierPlan]:
    return list(recipe(Configuration.of(scheme, algorithm, group_size, **engine), LLAMA, accelerator=True))


def refusal(configuration: Configuration, model: ModelFacts = LLAMA, *, accelerator: bool = True) -> str:
    with pytest.raises(TrialFailure) as raised:
        recipe(configuration, model, accelerator=accelerator)
    assert raised.value.reason is FailureReason.QUANTIZATION_FAILED
    assert configuration.describe() in raised.value.message
    return raised.value.message


@pytest.mark.parametrize(
    ("scheme", "preset"),
    [
        (Scheme.W8A8_INT8, "W8A8"),
        (Scheme.W4A16, "W4A16"),
        (Scheme.W4A16_ASYM, "W4A16_ASYM"),
        (Scheme.W8A16, "W8A16"),
        (Scheme.W4A8, "W4A8"),
        (Scheme.W4AFP8, "W4AFP8"),
        (Scheme.FP8_DYNAMIC, "FP8_DYNAMIC"),
        (Scheme.FP8_BLOCK, "FP8_BLOCK"),
        (Scheme.NVFP4, "NVFP4"),
        (Scheme.NVFP4A16, "NVFP4A16"),
        (Scheme.MXFP4, "MXFP4"),
        (Scheme.MXFP4A16, "MXFP4A16"),
        (Scheme.MXFP8, "MXFP8"),
    ],
)
@pytest.mark.parametrize(
    ("algorithm", "modifier"), [(Algorithm.RTN, Modifier.QUANTIZATION), (Algorithm.GPTQ, Modifier.GPTQ)]
)
def test_every_scheme_is_made_by_rounding_and_by_gptq(
    scheme: Scheme, preset: str, algorithm: Algorithm, modifier: Modifier
) -> None:
    (plan,) = made(scheme, algorithm)
    assert (plan.modifier, plan.preset, plan.ignore) == (modifier, preset, ("lm_head",))


@pytest.mark.parametrize(
    ("algorithm", "modifiers"),
    [
        (Algorithm.SMOOTHQUANT, [Modifier.SMOOTHQUANT, Modifier.QUANTIZATION]),
        (Algorithm.SMOOTHQUANT_GPTQ, [Modifier.SMOOTHQUANT, Modifier.GPTQ]),
    ],
)
def test_smoothquant_comes_before_rounding(algorithm: Algorithm, modifiers: list[Modifier]) -> None:
    plans = made(Scheme.W8A8_INT8, algorithm)
    assert [plan.modifier for plan in plans] == modifiers
    assert plans[0].options == {"smoothing_strength": 0.8}
    assert plans[0].preset is None


def test_awq_transforms_and_rounding_follows() -> None:
    transform, rounding = made(Scheme.W4A16, Algorithm.AWQ)
    assert (transform.modifier, rounding.modifier) == (Modifier.AWQ, Modifier.QUANTIZATION)
    assert not transform.ignore, "llm-compressor's AWQModifier takes none"
    assert rounding.ignore


def test_awq_without_an_accelerator_is_refused_with_another_way() -> None:
    said = refusal(Configuration.of(Scheme.W4A16, Algorithm.AWQ), accelerator=False)
    assert "AWQ needs an accelerator" in said
    assert "use gptq" in said


@pytest.mark.parametrize("accelerator", [True, False])
def test_autoround_compiles_only_where_that_pays(accelerator: bool) -> None:
    (plan,) = recipe(Configuration.of("W4A16", "autoround"), LLAMA, accelerator=accelerator)
    assert plan.options["enable_torch_compile"] is accelerator


def test_autoround_does_not_compile_without_a_compiler() -> None:
    (plan,) = recipe(Configuration.of("W4A16", "autoround"), LLAMA, accelerator=True, compiles=False)
    assert plan.options["enable_torch_compile"] is False


@pytest.mark.parametrize(
    ("scheme", "algorithm", "said"),
    [
        ("BF16", "rtn", "no format to round to"),
        ("W4A16", "none", "none does not make W4A16; use rtn, gptq, awq, autoround"),
        ("FP8-DYNAMIC", "awq", "awq does not make FP8-DYNAMIC; use rtn, gptq, smoothquant"),
        ("W4A16", "smoothquant", "smoothquant does not make W4A16"),
        ("W8A8-INT8", "autoround", "autoround does not make W8A8-INT8"),
    ],
)
def test_combination_that_makes_no_sense_names_the_ones_that_do(scheme: str, algorithm: str, said: str) -> None:
    assert said in refusal(Configuration.of(scheme, algorithm))


def test_group_size_that_does_not_divide_names_layer_columns_and_sizes_that_do() -> None:
    model = facts(matrices=(linear("self_attn.q_proj", 64, 256), linear("mlp.down_proj", 256, 704)))
    said = refusal(Configuration.of("W4A16", "gptq", 128), model)
    assert "group size 128 does not divide the 704 columns of mlp.down_proj" in said
    assert "group sizes that fit: 16, 32, 64, -1 (one scale per channel)" in said


def test_the_scheme_s_own_group_size_is_checked_too() -> None:
    model = facts(matrices=(linear("mlp.down_proj", 256, 704),))
    assert "group size 128 does not divide" in refusal(Configuration.of("W4A16", "rtn"), model)
    assert recipe(Configuration.of("W4A16", "rtn", 64), model, accelerator=False)
    assert recipe(Configuration.of("W4A16", "rtn", -1), model, accelerator=False)
    assert recipe(Configuration.of("W8A8-INT8", "rtn"), model, accelerator=False)


def test_fixed_groups_that_do_not_divide_name_a_scheme_without_groups() -> None:
    model = facts(matrices=(linear("mlp.down_proj", 256, 720),))
    assert "use a scheme without groups" in refusal(Configuration.of("MXFP4", "rtn"), model)


@pytest.mark.parametrize(
    ("scheme", "size", "said"),
    [
        ("NVFP4", 32, "its own is 16; leave groupSize out"),
        ("W8A8-INT8", 128, "it has no groups; leave groupSize out"),
        ("W4A16", 0, "groupSize 0 is not a size"),
    ],
)
def test_group_size_where_there_is_no_choice_is_refused(scheme: str, size: int, said: str) -> None:
    assert said in refusal(Configuration.of(scheme, "rtn", size))


@given(columns=st.integers(1, 4096), size=st.sampled_from([16, 32, 64, 128, 256]))
def test_a_group_size_is_accepted_exactly_if_it_divides(columns: int, size: int) -> None:
    model = facts(matrices=(linear("layer", 8, columns),))
    configuration = Configuration.of("W4A16", "rtn", size)
    if columns % size == 0:
        assert recipe(configuration, model, accelerator=False)[0].group_size == size
    else:
        assert f"the {columns} columns of layer" in refusal(configuration, model)


def test_quantized_checkpoint_is_not_quantized_again() -> None:
    awq = CheckpointFormat(name="awq", method="awq")
    assert "quantized already (awq)" in refusal(Configuration.of("W4A16", "rtn"), facts(quantization=awq))


def test_model_that_is_no_language_model_is_refused() -> None:
    assert "BertForMaskedLM is not a language model" in refusal(
        Configuration.of("W4A16", "rtn"), facts(architecture="BertForMaskedLM")
    )


def test_what_is_not_to_be_rounded_is_left_alone() -> None:
    kept = (
        linear("mlp.gate", 8, 64, Role.ROUTER, rounded=False),
        linear("model.visual.blocks.attn.qkv", 96, 32, Role.VISION, rounded=False),
        linear("linear_attn.in_proj_a", 4, 64, Role.LINEAR_ATTENTION, rounded=False),
    )
    (plan,) = recipe(Configuration.of("W4A16", "rtn"), facts(matrices=(*LLAMA.matrices, *kept)), accelerator=False)
    patterns = [re.compile(pattern.removeprefix("re:")) for pattern in plan.ignore if pattern.startswith("re:")]

    def is_left(name: str) -> bool:
        return any(pattern.match(name) for pattern in patterns)

    assert plan.ignore[0] == "lm_head"
    assert is_left("model.layers.0.mlp.gate")
    assert is_left("model.visual.blocks.11.attn.qkv")
    assert is_left("model.language_model.layers.3.linear_attn.in_proj_a")
    assert not is_left("model.layers.0.mlp.gate_proj")
    assert not is_left("model.layers.0.self_attn.q_proj")
    assert not is_left("model.layers.0.linear_attn.in_proj_ab")


@pytest.mark.parametrize(
    ("scheme", "algorithm", "reads"),
    [
        ("BF16", "none", False),
        ("W4A16", "rtn", False),
        ("FP8-DYNAMIC", "rtn", False),
        ("NVFP4", "rtn", True),
        ("W4A16", "gptq", True),
        ("W8A8-INT8", "smoothquant", True),
        ("W4A16", "autoround", True),
    ],
)
def test_only_what_looks_at_data_depends_on_calibration(scheme: str, algorithm: str, reads: bool) -> None:
    assert Configuration.of(scheme, algorithm).calibrated is reads


@pytest.mark.parametrize(
    ("algorithm", "dtype", "calibrated"),
    [
        ("gptq", "fp8", "fp8"),
        ("gptq", "fp8_e4m3", "fp8_e4m3"),
        ("gptq", "fp8_e5m2", None),
        ("gptq", "auto", None),
        ("rtn", "fp8", None),
    ],
)
def test_kv_cache_scales_are_calibrated_where_data_is_read_anyway(
    algorithm: str, dtype: str, calibrated: str | None
) -> None:
    configuration = Configuration.of("W4A16", algorithm, kv_cache_dtype=dtype)
    assert configuration.calibrated_kv_cache == calibrated
    assert recipe(configuration, LLAMA, accelerator=False)[-1].kv_cache is (calibrated is not None)


def test_plans_know_whether_they_pass_over_the_data() -> None:
    assert [plan.calibrates for plan in made(Scheme.W8A8_INT8, Algorithm.SMOOTHQUANT)] == [True, False]
    assert [plan.calibrates for plan in made(Scheme.NVFP4, Algorithm.RTN)] == [True]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "generation_config.json", "a.jinja"])
def test_tokenizer_and_generation_files_are_the_models_own(name: str) -> None:
    assert not is_artifacts_own(name)


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-2.safetensors", "model.safetensors.index.json"])
def test_weights_and_configuration_are_the_artifacts_own(name: str) -> None:
    assert is_artifacts_own(name)


def test_the_output_head_is_rounded_by_its_name_where_that_is_asked_for() -> None:
    head = linear("lm_head", 256, 64).model_copy(update={"role": Role.OUTPUT_HEAD, "rounded": False})
    model = facts(matrices=(linear("up_proj", 64, 64), head))
    (plain,) = recipe(Configuration.of("W8A8-INT8", "rtn"), model, accelerator=False)
    (headed,) = recipe(Configuration.of("W8A8-INT8", "rtn"), with_head(model), accelerator=False)
    assert (plain.targets, "lm_head" in plain.ignore) == (("Linear",), True)
    assert (headed.targets, headed.ignore) == (("Linear", r"re:(.*\.)?lm_head$"), ())
