"""Checkpoints as people publish them: recognised by their files, and served by the engine unless HAQA rules them out.

What to expect is asked of HAQA itself, so this is as true on a CPU with AVX2 alone as on one with AMX.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.integration.quantize_bench import LIMIT_S, Bench
from tests.integration.this_cpu import answers, installed_version, this_cpu
from tests.published import FORMATS

from haqa_contract import FETCH_TRIAL, ArtifactReport, ModelSource, VariantReport, VariantSource
from haqa_operator.local.environments import PROJECT
from haqa_operator.search.published import why_not_loaded
from haqa_runner.prefork import PreforkedLauncher
from haqa_runner.serve.launching import Spawn

pytestmark = pytest.mark.timeout(600)

LIKE = {
    "gptq": "W4A16",
    "gptq-8": "W8A16",
    "awq": "W4A16-ASYM",
    "fp8": "FP8-DYNAMIC",
    "fp8-static": "FP8-DYNAMIC",
    "fp8-block": "FP8-BLOCK",
    "fbgemm-fp8": "FP8-DYNAMIC",
    "modelopt-fp8": "FP8-DYNAMIC",
    "modelopt-nvfp4": "NVFP4",
    "bitsandbytes": "OTHER",
    "hqq": "OTHER",
}


@pytest.fixture(scope="module")
def published(launcher: PreforkedLauncher, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    command = ["tests.published", str(models["tiny"]), str(folder)]
    maker = launcher.launch(command, dict(os.environ), PROJECT, folder / "log")
    assert maker.wait(LIMIT_S) == 0, (folder / "log").read_text()
    return folder


@pytest.fixture(scope="module")
def bench(launcher: PreforkedLauncher, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(launcher, tmp_path_factory.mktemp("looks"), models["tiny"])


def sources(folder: Path, *labels: str) -> tuple[VariantSource, ...]:
    return tuple(VariantSource(label=label, source=ModelSource(uri=f"file://{folder / label}")) for label in labels)


@pytest.fixture(scope="module")
def look(bench: Bench, published: Path) -> ArtifactReport:
    report = bench.run(bench.request("BF16", "none", trial=FETCH_TRIAL, variants=sources(published, *FORMATS)))
    assert report.artifact is not None, report.failure
    return report.artifact


@pytest.fixture(scope="module")
def found(look: ArtifactReport) -> dict[str, VariantReport]:
    return {variant.label: variant for variant in look.variants}


@pytest.fixture(scope="module")
def problems(
    engines: Spawn, published: Path, found: dict[str, VariantReport], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str | None]:
    """What keeps this machine's engine from answering, by format; None where it answers."""
    said = answers(engines, [published / name for name in FORMATS], tmp_path_factory.mktemp("answering"))
    return {name: said[published / name] for name in FORMATS}


def test_every_format_is_recognised(found: dict[str, VariantReport]) -> None:
    assert {name: one.quantization.scheme for name, one in found.items() if one.quantization} == LIKE


def test_files_say_how_large_it_is(found: dict[str, VariantReport], look: ArtifactReport) -> None:
    assert look.facts is not None
    whole = look.facts.weight_bytes
    assert whole is not None
    assert found["bitsandbytes"].weight_bytes == whole, "these are still in 16 bit"
    assert found["gptq"].weight_bytes < found["modelopt-nvfp4"].weight_bytes < found["fp8"].weight_bytes < whole


@pytest.mark.parametrize("name", FORMATS)
def test_an_engine_serves_what_haqa_allows_and_nothing_that_it_rules_out(
    problems: dict[str, str | None], found: dict[str, VariantReport], name: str
) -> None:
    quantization = found[name].quantization
    assert quantization is not None
    ruled_out, problem = why_not_loaded(this_cpu(), quantization, installed_version()), problems[name]
    assert (problem is None) == (ruled_out is None), f"HAQA says {ruled_out or 'yes'}; the engine: {problem}"


def test_a_trial_serves_the_variant_that_was_looked_at(
    bench: Bench, published: Path, found: dict[str, VariantReport], tmp_path: Path
) -> None:
    request = bench.request("W4A16", "published", 64, variants=sources(published, "gptq"))
    chosen = request.configuration.model_copy(update={"variant": found["gptq"].variant})
    report = bench.run(request.model_copy(update={"configuration": chosen}))
    assert report.failure is None
    assert (Path(request.directory) / "model").resolve() == (published / "gptq").resolve()

    moved = shutil.copytree(published / "gptq", tmp_path / "gptq")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "changed": True}))
    again = bench.request("W4A16", "published", 64, variants=sources(tmp_path, "gptq"))
    failure = bench.run(again.model_copy(update={"configuration": chosen})).failure
    assert failure is not None
    assert f"{found['gptq'].variant} was looked at; pin its revision, or tune the new one" in failure.message


def test_a_checkpoint_of_another_model_is_no_variant(bench: Bench, models: dict[str, Path], published: Path) -> None:
    other = VariantSource(label="mini", source=ModelSource(uri=f"file://{models['mini']}"))
    failure = bench.run(bench.request("BF16", "none", trial=FETCH_TRIAL, variants=(other,))).failure
    assert failure is not None
    assert "its hidden size is 128, the model's 256" in failure.message
    assert "spec.model.variants mini" in failure.message


def test_a_checkpoint_that_reads_text_differently_is_no_variant(bench: Bench, published: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(published / "gptq", tmp_path / "gptq")
    tokenizer = json.loads((moved / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:100]
    (moved / "tokenizer.json").write_text(json.dumps(tokenizer))
    failure = bench.run(bench.request("BF16", "none", trial=FETCH_TRIAL, variants=sources(tmp_path, "gptq"))).failure
    assert failure is not None
    assert "its tokenizer cuts text differently" in failure.message
