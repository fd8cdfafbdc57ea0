"""What is made of configs that people serve, by the classes of the installed transformers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from haqa_contract.model_facts import ModelFacts, Role
from haqa_operator.local.environments import runner_environment

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "data" / "model_configs"
QUANTIZED = {
    "MiniMaxAI--MiniMax-M2.5": "fp8 with blocks of 128x128",
    "Qwen--Qwen3-235B-A22B-FP8": "fp8 with blocks of 128x128",
    "Qwen--Qwen3-32B-FP8-Static-PerTensor": "ModelOpt FP8",
    "deepseek-ai--DeepSeek-V3": "fp8 with blocks of 128x128",
    "deepseek-ai--DeepSeek-V4-Flash": "fp8 with blocks of 128x128",
    "moonshotai--Kimi-K2-Instruct": "fp8 with blocks of 128x128",
    "nvidia--DeepSeek-V3.1-NVFP4": "ModelOpt NVFP4",
    "nvidia--Kimi-K2.6-NVFP4": "ModelOpt NVFP4",
    "nvidia--Llama-3.1-70B-Instruct-FP8": "ModelOpt FP8",
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4": "ModelOpt NVFP4",
    "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": "ModelOpt FP8",
    "openai--gpt-oss-120b": "mxfp4",
    "openai--gpt-oss-20b": "mxfp4",
    "zai-org--GLM-5.2-FP8": "fp8 with blocks of 128x128",
}
NO_CLASS = {"MiniMaxAI--MiniMax-M3", "XiaomiMiMo--MiMo-7B-Base", "nvidia--Llama-3_3-Nemotron-Super-49B-v1"}


@pytest.fixture(scope="module")
def facts() -> dict[str, ModelFacts]:
    python = runner_environment().python
    command = [str(python), "-m", "benchmarks.model_facts", str(CONFIGS), "--json"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {one.pop("name"): ModelFacts.model_validate(one) for one in found}


def shares(facts: ModelFacts) -> dict[Role, float]:
    """Billions of parameters by role."""
    found: dict[Role, float] = {}
    for matrix in facts.matrices:
        found[matrix.role] = found.get(matrix.role, 0) + matrix.parameters / 1e9
    return found


def test_parameters_are_right_wherever_there_is_a_class(facts: dict[str, ModelFacts]) -> None:
    true = json.loads((CONFIGS / "parameters.json").read_text())
    assert set(facts) == set(true)
    for name, known in true.items():
        if known["params"] is not None:
            assert facts[name].source == "class", name
            assert facts[name].parameters == pytest.approx(known["params"], rel=0.01), name


def test_nothing_is_said_of_what_has_neither_class_nor_files(facts: dict[str, ModelFacts]) -> None:
    assert {name for name, one in facts.items() if one.source == "nothing"} == NO_CLASS
    for name in NO_CLASS:
        assert (facts[name].parameters, facts[name].cache, facts[name].matrices) == (0, None, ())
        assert "whether it fits is seen in its trials" in facts[name].notes[0]


def test_quantized_checkpoints_are_recognised(facts: dict[str, ModelFacts]) -> None:
    assert {name: one.quantized_by for name, one in facts.items() if one.quantized_by} == QUANTIZED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meta-llama--Meta-Llama-3.1-8B", {"embedding": 0.53, "attention": 1.34, "mlp": 5.64, "output-head": 0.53}),
        ("Qwen--Qwen3-0.6B", {"embedding": 0.16, "attention": 0.18, "mlp": 0.26}),
        (
            "meta-llama--Llama-4-Maverick-17B-128E-Instruct",
            {"vision": 0.42, "projector": 0.04, "routed-expert": 386.5, "shared-expert": 3.02, "mlp": 6.04},
        ),
        ("google--gemma-4-26B-A4B", {"vision": 0.55, "routed-expert": 22.84, "mlp": 0.54, "embedding": 0.74}),
        ("Qwen--Qwen3.5-27B", {"vision": 0.46, "linear-attention": 5.56, "attention": 1.68, "mlp": 17.11}),
        ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {"linear-attention": 0.89, "attention": 0.14}),
        ("deepseek-ai--DeepSeek-V3", {"attention": 11.41, "routed-expert": 653.9, "router": 0.11}),
        ("openai--gpt-oss-20b", {"attention": 0.64, "routed-expert": 19.11}),
        ("nvidia--Kimi-K2.6-NVFP4", {"vision": 0.41, "projector": 0.05, "routed-expert": 1014.7}),
    ],
)
def test_every_matrix_has_its_role(facts: dict[str, ModelFacts], name: str, expected: dict[str, float]) -> None:
    found = shares(facts[name])
    for role, billions in expected.items():
        assert found[Role(role)] == pytest.approx(billions, abs=0.006, rel=1e-3), role
    assert found.get(Role.PREDICTION, 0) == 0


def test_what_is_small_decisive_or_no_text_is_never_rounded(facts: dict[str, ModelFacts]) -> None:
    for name, one in facts.items():
        rounded = {matrix.role for matrix in one.matrices if matrix.rounded}
        assert rounded <= {
            Role.ATTENTION,
            Role.MLP,
            Role.ROUTED_EXPERT,
            Role.SHARED_EXPERT,
            Role.LINEAR_ATTENTION,
        }, name
        assert not any(matrix.rounded for matrix in one.matrices if matrix.short_name in ("in_proj_a", "in_proj_b"))


@pytest.mark.parametrize(
    ("name", "kib_per_token"),
    [
        ("meta-llama--Meta-Llama-3.1-70B", 320),
        ("deepseek-ai--DeepSeek-V3", 61 * 576 * 2 / 1024),
        ("Qwen--Qwen3.5-27B", 16 * 2 * 4 * 256 * 2 / 1024),
        ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 6 * 2 * 2 * 128 * 2 / 1024),
        ("openai--gpt-oss-20b", 24 * 2 * 8 * 64 * 2 / 1024),
    ],
)
def test_cache_is_what_the_layers_with_keys_and_values_hold(
    facts: dict[str, ModelFacts], name: str, kib_per_token: float
) -> None:
    first = sum(cache.layers * cache.numbers for cache in facts[name].cache or ())
    assert first * 2 / 1024 == pytest.approx(kib_per_token)


def test_windows_and_states_are_those_of_the_layers(facts: dict[str, ModelFacts]) -> None:
    windows = {name: [cache.window for cache in facts[name].cache or ()] for name in facts}
    assert windows["openai--gpt-oss-20b"] == [128, None]
    assert windows["google--gemma-4-26B-A4B"] == [1024, None]
    assert windows["meta-llama--Llama-4-Maverick-17B-128E-Instruct"] == [8192, None]
    # 48 layers of 48 heads of 128 x 128, and the last three tokens of the convolution's 10,240 channels.
    assert facts["Qwen--Qwen3.5-27B"].state_numbers == 48 * (48 * 128 * 128 + 3 * 10240)
