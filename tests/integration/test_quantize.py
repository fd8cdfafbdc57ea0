"""The quantize step with the real llm-compressor, on a small Llama, through the command that a trial runs.

Processes are forked from one that has imported llm-compressor, as `haqa tune` does it: the import takes longer than
everything else here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.quantize_bench import LIMIT_S, Bench, left, progress_of, wait_until
from tests.upstream.questions import layouts

from haqa_contract import (
    MADE_SCHEMES,
    Algorithm,
    Calibration,
    FailureReason,
    Scheme,
)
from haqa_contract.failures import TrialFailure
from haqa_runner.models.checkpoint import read_header, weight_files
from haqa_runner.prefork import PreforkedLauncher
from haqa_runner.progress import Phases
from haqa_runner.store import ArtifactKey, LocalStore


def checksums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def bench(launcher: PreforkedLauncher, models: dict[str, Path], tmp_path: Path) -> Bench:
    return Bench(launcher, tmp_path, models["tiny"])


@pytest.fixture
def mini(launcher: PreforkedLauncher, models: dict[str, Path], tmp_path: Path) -> Bench:
    return Bench(launcher, tmp_path, models["mini"])


ROUNDED = [scheme for scheme in MADE_SCHEMES if scheme is not Scheme.BF16]
CALIBRATED = [
    (Scheme.W4A16, Algorithm.GPTQ),
    (Scheme.W8A8_INT8, Algorithm.SMOOTHQUANT),
    (Scheme.W8A8_INT8, Algorithm.SMOOTHQUANT_GPTQ),
]


@pytest.mark.parametrize(("scheme", "algorithm"), [*((scheme, Algorithm.RTN) for scheme in ROUNDED), *CALIBRATED])
def test_scheme_becomes_an_artifact_that_stands_by_itself(
    shared: Bench, models: dict[str, Path], scheme: Scheme, algorithm: Algorithm
) -> None:
    artifact = shared.make(scheme, algorithm)
    made = Path(artifact.path)
    quantization = json.loads((made / "config.json").read_text())["quantization_config"]
    assert quantization["quant_method"] == "compressed-tensors"
    if algorithm is Algorithm.RTN:
        assert layout_of(quantization) == layouts()[scheme.value], "what vLLM is asked about in tests/upstream"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (made / name).read_bytes() == (models["tiny"] / name).read_bytes()
    assert artifact.size_bytes < sum(path.stat().st_size for path in models["tiny"].iterdir())
    assert artifact.peak_rss_bytes is not None
    assert artifact.peak_rss_bytes > 2**20
    assert not artifact.reused


def layout_of(quantization: dict[str, Any]) -> dict[str, Any]:
    """What decides on kernels, without what was not given."""
    (group,) = quantization["config_groups"].values()

    def given(part: dict[str, Any] | None) -> dict[str, Any] | None:
        return part and {n: value for n, value in part.items() if value not in (None, {}) and n != "observer"}

    parts = {name: given(group.get(name)) for name in ("weights", "input_activations")}
    return {"format": quantization["format"], **parts}


def test_w4afp8_weights_are_packed_as_vllm_reads_them(mini: Bench) -> None:
    made = Path(mini.make(Scheme.W4AFP8, Algorithm.RTN).path)
    config = json.loads((made / "config.json").read_text())["quantization_config"]
    assert config["format"] == "pack-quantized"
    assert {group["format"] for group in config["config_groups"].values()} == {"pack-quantized"}
    assert {dtype for name, dtype in tensor_types(made) if name.endswith("weight_packed")} == {"I32"}


def tensor_types(folder: Path) -> list[tuple[str, str]]:
    """Name and type of every tensor, out of the safetensors headers."""
    found = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        found += [(name, facts["dtype"]) for name, facts in header.items() if name != "__metadata__"]
    return found


def test_autoround_makes_an_artifact(mini: Bench) -> None:
    artifact = mini.make(Scheme.W4A16, Algorithm.AUTOROUND, calibration=Calibration(samples=2, sequence_length=16))
    assert "auto-round" in artifact.tool_versions


def test_unquantized_model_is_linked_as_it_is(bench: Bench) -> None:
    request = bench.request(Scheme.BF16, Algorithm.NONE)
    report = bench.run(request)
    assert report.artifact is not None
    assert (Path(request.directory) / "model").resolve() == bench.model
    assert [phase.name for phase in report.phases] == ["fetch"]


def test_trial_s_folder_links_to_the_artifact(bench: Bench) -> None:
    request = bench.request(Scheme.W8A8_INT8, Algorithm.RTN)
    report = bench.run(request)
    assert report.artifact is not None
    assert (Path(request.directory) / "model").resolve() == Path(report.artifact.path)
    assert [phase.name for phase in report.phases] == ["fetch", "quantize", "publish"]


def test_same_request_makes_the_same_bytes(
    launcher: PreforkedLauncher, models: dict[str, Path], tmp_path: Path
) -> None:
    one, other = (
        Bench(launcher, tmp_path / name, models["mini"]).make(Scheme.W4A16, Algorithm.GPTQ) for name in ("one", "other")
    )
    assert one.digest == other.digest
    assert checksums(Path(one.path)) == checksums(Path(other.path))


def test_second_trial_reuses_the_artifact_whatever_its_engine_settings(bench: Bench) -> None:
    first = bench.make(Scheme.W8A8_INT8, Algorithm.RTN)
    request = bench.request(Scheme.W8A8_INT8, Algorithm.RTN, settings={"max_num_seqs": 64})
    second = bench.run(request)
    assert second.artifact is not None
    assert second.artifact.reused
    assert (second.artifact.path, second.artifact.digest) == (first.path, first.digest)
    assert [phase.name for phase in second.phases] == ["fetch"]


def test_what_was_asked_for_before_is_found_without_the_model(
    bench: Bench, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["mini"], tmp_path / "model")
    bench.model = tmp_path / "model"
    looked_at = bench.run(bench.request(Scheme.BF16, Algorithm.NONE)).artifact
    assert looked_at is not None
    seen = {"model_digest": looked_at.model_digest}
    made = bench.make(Scheme.W8A8_INT8, Algorithm.RTN, **seen)
    shutil.rmtree(bench.model)
    again = bench.make(Scheme.W8A8_INT8, Algorithm.RTN, **seen)
    assert (again.digest, again.reused, made.reused) == (made.digest, True, False)
    assert bench.make(Scheme.W8A8_INT8, Algorithm.RTN, artifact=made.digest).path == made.path
    assert bench.fail(Scheme.W4A16, Algorithm.RTN, **seen).reason is FailureReason.MODEL_FETCH
    missing = bench.fail(Scheme.W8A8_INT8, Algorithm.RTN, artifact="0" * 64)
    assert missing.reason is FailureReason.MODEL_FETCH
    assert "tune again to make it anew" in missing.message


def test_another_model_than_the_one_that_was_looked_at_is_refused(mini: Bench) -> None:
    failure = mini.fail(Scheme.W8A8_INT8, Algorithm.RTN, model_digest="sha256-of-another")
    assert failure.reason is FailureReason.MODEL_FETCH
    assert "sha256-of-another was looked at" in failure.message


def test_calibration_makes_another_artifact_only_where_it_is_read(mini: Bench) -> None:
    other = Calibration(samples=4, sequence_length=64, seed=1)
    assert mini.make("W8A8-INT8", "rtn").digest == mini.make("W8A8-INT8", "rtn", calibration=other).digest
    assert mini.make("W4A16", "gptq").digest != mini.make("W4A16", "gptq", calibration=other).digest


def test_the_output_head_is_rounded_only_where_that_is_asked_for(mini: Bench) -> None:
    plain, headed = mini.make("W8A8-INT8", "rtn"), mini.make("W8A8-INT8", "rtn", quantize_head=True)
    assert plain.digest != headed.digest
    for artifact, dtype in ((plain, "BF16"), (headed, "I8")):
        (path,) = weight_files(Path(artifact.path), "")
        tensors = {header.name: header.dtype for header in read_header(path, "")}
        assert tensors["lm_head.weight"] == dtype
        assert ("lm_head.weight_scale" in tensors) is (dtype == "I8")
        ignored = json.loads((Path(artifact.path) / "config.json").read_text())["quantization_config"]["ignore"]
        assert ("lm_head" in ignored) is (dtype == "BF16")


def test_kv_cache_scales_come_with_calibration(mini: Bench) -> None:
    artifact = mini.make("W8A8-INT8", "smoothquant", settings={"kv_cache_dtype": "fp8"})
    config = json.loads((Path(artifact.path) / "config.json").read_text())
    assert config["quantization_config"]["kv_cache_scheme"]["num_bits"] == 8


def test_progress_rises_layer_by_layer(mini: Bench) -> None:
    request = mini.request(Scheme.W4A16, Algorithm.GPTQ)
    mini.run(request)
    told = [line for line in progress_of(request) if line.phase == "quantize"]
    assert [line.done for line in told] == sorted(line.done for line in told)
    assert any("layer 1 of" in line.message for line in told)
    assert told[-1].done == 1.0


def test_killed_quantization_leaves_nothing_and_the_next_one_is_good(bench: Bench, shared: Bench) -> None:
    request = bench.request(Scheme.W4A16, Algorithm.GPTQ)
    process = bench.start(request)
    wait_until(lambda: any("layer" in line.message for line in progress_of(request)), process)
    process.kill()
    process.wait(LIMIT_S)
    assert not (Path(request.directory) / "quantize.json").exists()
    assert not list((bench.store).glob("artifacts/*"))
    assert len(list((bench.store / "partial").iterdir())) == 1
    again = bench.make(Scheme.W4A16, Algorithm.GPTQ)
    assert not list((bench.store / "partial").iterdir())
    assert checksums(Path(again.path)) == checksums(Path(shared.make(Scheme.W4A16, Algorithm.GPTQ).path))


def test_two_trials_at_once_make_it_once(bench: Bench) -> None:
    requests = [bench.request(Scheme.W4A16, Algorithm.GPTQ) for _ in range(2)]
    processes = [bench.start(request) for request in requests]
    assert [process.wait(LIMIT_S) for process in processes] == [0, 0]
    reports = [left(request) for request in requests]
    assert sorted(report.artifact.reused for report in reports if report.artifact) == [False, True]
    assert sum(phase.name == "quantize" for report in reports for phase in report.phases) == 1


def test_time_limit_is_a_report_and_leaves_nothing(mini: Bench) -> None:
    failure = mini.fail(Scheme.W4A16, Algorithm.AUTOROUND, quantize_timeout_s=1.0)
    assert failure.reason is FailureReason.TIMEOUT
    assert "limit of 1 s; raise budget.trialTimeout" in failure.message
    assert not list(mini.store.glob("artifacts/*"))
    assert not list(mini.store.glob("partial/*"))


def test_group_size_that_does_not_divide_is_refused_before_work(bench: Bench, models: dict[str, Path]) -> None:
    bench.model = models["odd"]
    request = bench.request(Scheme.W4A16, Algorithm.GPTQ, 128)
    report = bench.run(request)
    assert report.failure is not None
    assert report.failure.reason is FailureReason.QUANTIZATION_FAILED
    assert "group size 128 does not divide the 704 columns of mlp.down_proj and 1 more" in report.failure.message
    assert "group sizes that fit: 16, 32, 64, -1" in report.failure.message
    assert [phase.name for phase in report.phases] == ["fetch"]
    bench.make(Scheme.W4A16, Algorithm.RTN, 64)


def test_quantized_model_is_not_quantized_again(bench: Bench, shared: Bench) -> None:
    bench.model = Path(shared.make(Scheme.W8A8_INT8, Algorithm.RTN).path)
    failure = bench.fail(Scheme.W4A16, Algorithm.RTN)
    assert "quantized already (compressed-tensors W8A8)" in failure.message


def test_too_little_calibration_text_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("def few(): pass\n")
    few = Calibration(dataset=f"file://{tmp_path}/few.txt", samples=8, sequence_length=64)
    failure = bench.fail(Scheme.W4A16, Algorithm.GPTQ, calibration=few)
    assert failure.reason is FailureReason.QUANTIZATION_FAILED
    assert f"calibration dataset file://{tmp_path}/few.txt has" in failure.message


def test_damaged_weights_are_a_sentence_about_the_model(bench: Bench, models: dict[str, Path], tmp_path: Path) -> None:
    bench.model = tmp_path / "damaged"
    subprocess.run(["cp", "-r", models["tiny"], bench.model], check=True)
    with (bench.model / "model.safetensors").open("r+b") as stream:
        stream.truncate(10_000)
    failure = bench.fail(Scheme.W8A8_INT8, Algorithm.RTN)
    assert failure.reason is FailureReason.MODEL_FETCH
    assert "model.safetensors is cut short (10000 of" in failure.message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "haqa-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_disk_without_room_is_refused_before_work(bench: Bench, small_disk: Path) -> None:
    bench.store = small_disk / "store"
    request = bench.request(Scheme.W8A8_INT8, Algorithm.RTN)
    report = bench.run(request)
    assert report.failure is not None
    assert report.failure.reason is FailureReason.QUANTIZATION_FAILED
    assert f"{small_disk}/store has too little free space for artifact" in report.failure.message
    assert [phase.name for phase in report.phases] == ["fetch"]


def test_disk_that_fills_up_while_publishing_is_a_sentence_and_is_cleared(small_disk: Path, shared: Bench) -> None:
    made = Path(shared.make(Scheme.W8A8_INT8, Algorithm.RTN).path)
    key = ArtifactKey.model_validate(json.loads((made.parent / "manifest.json").read_text())["key"])

    def build(folder: Path) -> None:
        with (folder / "model.safetensors").open("wb") as stream:
            for _ in range(64):
                stream.write(bytes(2**20))

    with pytest.raises(TrialFailure, match="too little free space for the artifact"):
        LocalStore(small_disk / "store").obtain(key, build, estimate_bytes=2**20, phases=Phases())
    assert sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file()) < 1000


SAME_AS_EAGER = """
import sys
import torch
import llmcompressor.modifiers.gptq.gptq_quantize as gptq
from compressed_tensors.quantization import QuantizationArgs
from haqa_runner.quantize.on_cpu import gptq_block_update_by_rows, linear_in_float32

def quantized(update, symmetric, batch):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(batch, 96, 256, generator=generator)
    inputs = torch.randn(1024, 256, generator=generator) * torch.rand(256, generator=generator)
    hessians = (inputs.T @ inputs / 1024).repeat(batch, 1, 1)
    scale = (weights.view(batch, 96, 2, 128).abs().amax(-1) / 7).to(torch.bfloat16)
    zero = torch.full_like(scale, 0 if symmetric else 2).to(torch.int8)
    args = QuantizationArgs(num_bits=4, group_size=128, strategy="group", symmetric=symmetric, actorder="static")
    gptq.gptq_block_update = update
    return gptq.quantize_weight(weights, hessians, scale, zero, None, args)

eager = gptq.gptq_block_update.__wrapped__
for symmetric in (True, False):
    for batch in (1, 3):
        one, other = (quantized(update, symmetric, batch) for update in (eager, gptq_block_update_by_rows))
        assert (one[0] != other[0]).float().mean() < 1e-3, (symmetric, batch)
        torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-4)

layer, inputs = torch.nn.Linear(256, 64).bfloat16(), torch.randn(8, 256).bfloat16()
with linear_in_float32():
    fast = layer(inputs)
torch.testing.assert_close(fast, layer(inputs), rtol=1e-2, atol=1e-2)
assert fast.dtype == torch.bfloat16
"""


def test_faster_computation_on_cpu_gives_what_llm_compressor_s_own_gives(
    launcher: PreforkedLauncher, tmp_path: Path
) -> None:
    process = launcher.launch(["-c", SAME_AS_EAGER], dict(os.environ), tmp_path, tmp_path / "log")
    assert process.wait(LIMIT_S) == 0, (tmp_path / "log").read_text()
