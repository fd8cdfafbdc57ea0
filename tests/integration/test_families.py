"""Small models of the families that people serve: understood by their class, quantized whole, and loaded again."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints import write_safetensors
from tests.families import FAMILIES
from tests.integration.quantize_bench import LIMIT_S, Bench
from tests.integration.this_cpu import answers

from haqa_contract import FETCH_TRIAL, Algorithm, FailureReason
from haqa_contract.model_facts import ModelFacts, Role
from haqa_operator.hardware.instruction_sets import at_least
from haqa_operator.hardware.this_machine import detect
from haqa_operator.local.environments import PROJECT
from haqa_runner.models.checkpoint import TensorHeader, read_header, weight_files
from haqa_runner.prefork import PreforkedLauncher
from haqa_runner.serve.launching import Spawn

ENGINE_LACKS = {
    "glm-5": "Sparse Attention is not supported on CPU",
    "minimax-m2": "",
    "nemotron-h": "is_act_and_mul=False is supported only for CUDA, XPU and ROCm",
}
"""Families that vLLM's CPU build does not serve at all, and how it says so."""
NO_INT8_EXPERTS = {
    "deepseek-v3": "No Int8 MoE backend",
    "gpt-oss": "No Int8 MoE backend",
    "llama4": "CPUExpertsInt8 does not support",
}
"""Those whose experts it has no INT8 kernel for."""
TEXT_ONLY = {"gemma3", "mistral3"}
"""Their processors want a tokenizer with words that only a real one has: they are served without their towers."""
MIXTURES = {"qwen3-moe", "qwen3-next", "mixtral", "deepseek-v3", "glm-5", "gpt-oss", "nemotron-h", "minimax-m2"}
"""transformers 5 joins the experts of these when it loads them, and cannot join what is quantized."""
TAKEN_APART = {"llama4"}
"""Its joined experts are Linear layers in the artifact, one by one: other modules that compute the same."""

_SCALE, _PACKED = ".weight_scale", ".weight_packed"
_FUSED = {"gpt-oss", "llama4"}
"""Their checkpoints have one tensor of all experts; what is saved has them one by one."""


@pytest.fixture(scope="module")
def families(launcher: PreforkedLauncher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    maker = launcher.launch(["tests.families", "all", str(folder)], dict(os.environ), PROJECT, folder / "log")
    assert maker.wait(LIMIT_S) == 0, (folder / "log").read_text()
    return folder


@pytest.fixture(scope="module")
def bench(launcher: PreforkedLauncher, families: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(launcher, tmp_path_factory.mktemp("quantized"), families / "llama")


@pytest.fixture(scope="module")
def facts(bench: Bench, families: Path) -> dict[str, ModelFacts]:
    """What the look at each model reports."""
    return {family: look(bench, families / family) for family in FAMILIES}


def look(bench: Bench, model: Path) -> ModelFacts:
    bench.model = model
    report = bench.run(bench.request("BF16", "none", trial=FETCH_TRIAL))
    assert report.artifact is not None, report.failure
    assert report.artifact.facts is not None
    return report.artifact.facts


def headers(folder: Path) -> dict[str, TensorHeader]:
    return {header.name: header for path in weight_files(folder, "") for header in read_header(path, "")}


def stem(name: str) -> str:
    """The matrix that a tensor belongs to."""
    for ending in (_PACKED, _SCALE, ".weight_shape", ".weight_zero_point", ".weight"):
        name = name.removesuffix(ending)
    return name


@pytest.mark.parametrize("family", FAMILIES)
def test_class_says_what_the_files_hold(family: str, facts: dict[str, ModelFacts], families: Path) -> None:
    found = facts[family]
    assert found.source == "class"
    assert found.notes == ()
    in_files = sum(math.prod(header.shape) for header in headers(families / family).values())
    assert found.parameters == pytest.approx(in_files, rel=1e-3)
    assert found.cache
    assert bool(found.state_numbers) is (family in ("qwen3-next", "qwen3.5", "nemotron-h"))


NOT_FOUND, CHANGED = "finds no layers to smooth", "would change what"
UNSMOOTHABLE = {
    "gemma3": NOT_FOUND,
    "mistral3": NOT_FOUND,
    "llama4": NOT_FOUND,
    "nemotron-h": NOT_FOUND,
    "qwen3-next": NOT_FOUND,
    "gemma4": CHANGED,
    "glm-5": CHANGED,
    "gpt-oss": CHANGED,
    "minimax-m2": CHANGED,
}
"""What SmoothQuant cannot do, by family."""
NO_AWQ = UNSMOOTHABLE | {"deepseek-v3": NOT_FOUND, "mixtral": CHANGED, "qwen3-next": CHANGED}


@pytest.mark.parametrize(
    ("algorithm", "problems"),
    [
        (Algorithm.SMOOTHQUANT, UNSMOOTHABLE),
        (Algorithm.SMOOTHQUANT_GPTQ, UNSMOOTHABLE),
        (Algorithm.AWQ, NO_AWQ),
        (Algorithm.AUTOROUND, {"gemma4": "hand keys and values on"}),
    ],
)
def test_what_a_model_cannot_take_is_known_beforehand(
    algorithm: Algorithm, problems: dict[str, str], facts: dict[str, ModelFacts]
) -> None:
    said = {
        family: one.reason for family, found in facts.items() for one in found.unsuited if one.algorithm is algorithm
    }
    assert said.keys() == problems.keys()
    assert all(problem in said[family] for family, problem in problems.items()), said


@pytest.mark.nightly
@pytest.mark.parametrize("family", FAMILIES)
def test_smoothing_ends_as_the_look_says(family: str, bench: Bench, families: Path) -> None:
    bench.model = families / family
    if UNSMOOTHABLE.get(family) == NOT_FOUND:
        failure = bench.fail("W8A8-INT8", "smoothquant")
        assert failure.reason is FailureReason.QUANTIZATION_FAILED
        assert "Error resolving mappings" in failure.message
    else:
        bench.make("W8A8-INT8", "smoothquant")


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_smoothing_harms_those_that_the_look_names(families: Path, launcher: PreforkedLauncher, tmp_path: Path) -> None:
    resolved = sorted(family for family in FAMILIES if UNSMOOTHABLE.get(family) != NOT_FOUND)
    command = ["tests.smoothed", *(str(families / family) for family in resolved)]
    assert launcher.launch(command, dict(os.environ), PROJECT, tmp_path / "log").wait(390) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    changes: dict[str, dict[str, float]] = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    assert {family for family, change in changes.items() if change["smoothquant"] > 1e-3} == {
        family for family in resolved if family in UNSMOOTHABLE
    }
    rough = {family for family, change in changes.items() if change.get("awq", 0.0) > 1.3 * change.get("rtn", 1.0)}
    assert rough == {"gpt-oss", "mixtral"}, changes


def check(family: str, bench: Bench, families: Path, facts: ModelFacts, *configuration: Any) -> None:
    """Quantizes and looks at every tensor of the result."""
    bench.model = families / family
    made = headers(Path(bench.make(*configuration).path))
    before = headers(families / family)
    rounded = {stem(name) for name in made if name.endswith(_SCALE)}
    expected = sum(matrix.count for matrix in facts.matrices if matrix.rounded)
    assert len(rounded) == expected
    kept = {name: header for name, header in made.items() if stem(name) not in rounded}
    assert all(header.dtype in ("BF16", "F32") for header in kept.values())
    if family not in _FUSED:
        assert {stem(name) for name in made} == {stem(name) for name in before}
        assert all(header.shape == before[name].shape for name, header in kept.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_model_is_saved_and_only_what_may_be_is_rounded(
    family: str, bench: Bench, families: Path, facts: dict[str, ModelFacts]
) -> None:
    check(family, bench, families, facts[family], "W8A8-INT8", "rtn")


@pytest.mark.nightly
@pytest.mark.parametrize("configuration", [("W4A16", "gptq", 32), ("W4A16", "rtn", 32), ("W8A8-INT8", "gptq")], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_other_formats_and_algorithms_too(
    family: str, configuration: tuple[Any, ...], bench: Bench, families: Path, facts: dict[str, ModelFacts]
) -> None:
    check(family, bench, families, facts[family], *configuration)


def test_transformers_loads_what_is_saved(bench: Bench, families: Path, launcher: PreforkedLauncher) -> None:
    pairs = {}
    for family in sorted(FAMILIES.keys() - MIXTURES):
        bench.model = families / family
        pairs[family] = (families / family, Path(bench.make("W8A8-INT8", "rtn").path))
    log = bench.folder / "reloaded.log"
    command = ["tests.reloaded", *(str(place) for pair in pairs.values() for place in pair)]
    assert launcher.launch(command, dict(os.environ), PROJECT, log).wait(300) == 0, log.read_text()
    said = json.loads(next(line for line in reversed(log.read_text().splitlines()) if line.startswith("{")))
    for family, (_, artifact) in pairs.items():
        found = said[str(artifact)]
        assert (found["missing"], found["unexpected"]) == ([], []), family
        assert bool(found["modules"]) is (family in TAKEN_APART), family
        assert found["difference"] < 0.1, family


PREDICTING = {
    "deepseek-v3": ("model.layers.2.", {"num_nextn_predict_layers": 1}, r"re:(.*\.)?layers\.2\..*"),
    "qwen3-next": ("mtp.layers.0.", {"mtp_num_hidden_layers": 1}, r"re:(.*\.)?mtp\..*"),
    "qwen3": ("model.mtp_layers.0.", {"num_nextn_predict_layers": 1}, r"re:(.*\.)?mtp_layers\..*"),
}
"""Families whose checkpoints have layers that guess further tokens: their beginning, and how the config says so."""


@pytest.mark.parametrize("family", PREDICTING)
def test_layers_that_predict_further_tokens_are_kept(
    family: str, bench: Bench, families: Path, tmp_path: Path, launcher: PreforkedLauncher
) -> None:
    beginning, fields, pattern = PREDICTING[family]
    model = shutil.copytree(families / family, tmp_path / family)
    tensors = {f"{beginning}eh_proj.weight": (64, 128), f"{beginning}mlp.down_proj.weight": (64, 64)}
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | fields))
    assert look(bench, model).predicted_tokens == 0, "the config alone says so"
    write_safetensors(model / "model-extra.safetensors", tensors)
    found = look(bench, model)
    assert (found.predicted_tokens, found.notes) == (1, ())
    predicting = {matrix.short_name for matrix in found.matrices if matrix.role is Role.PREDICTION}
    assert predicting == {"eh_proj", "down_proj"}
    artifact = Path(bench.make("W8A8-INT8", "rtn").path)
    made = headers(artifact)
    assert tensors.items() <= {name: header.shape for name, header in made.items()}.items()
    assert {made[name].dtype for name in tensors} == {headers(model)[name].dtype for name in tensors}
    index = json.loads((artifact / "model.safetensors.index.json").read_text())["weight_map"]
    assert index.keys() == made.keys()
    assert pattern in json.loads((artifact / "config.json").read_text())["quantization_config"]["ignore"]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_vllm_serves_what_its_cpu_build_has(
    bench: Bench,
    families: Path,
    facts: dict[str, ModelFacts],
    engines: Spawn,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    places = {(family, "BF16"): families / family for family in FAMILIES}
    for family in FAMILIES:
        bench.model = families / family
        places[family, "W8A8-INT8"] = Path(bench.make("W8A8-INT8", "rtn").path)
    text_only = {place for (family, _), place in places.items() if family in TEXT_ONLY}
    folder = tmp_path_factory.mktemp("answering")
    found = answers(engines, places.values(), folder, limit_s=800, text_only=text_only)
    for (family, scheme), place in places.items():
        if facts[family].experts and not at_least(detect(os.environ, None).isa, "amx"):
            # Which kernels for experts older instruction sets have was not tried.
            continue
        lacking = ENGINE_LACKS.get(family, NO_INT8_EXPERTS.get(family) if scheme != "BF16" else None)
        problem = found[place]
        if lacking is None:
            assert problem is None, (family, scheme, problem)
        else:
            assert problem is not None, (family, scheme)
            assert lacking in problem, (family, scheme)
