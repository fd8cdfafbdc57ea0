"""Models that fit no memory: rounded file by file into the same artifact, scored with most of them on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.families import FAMILIES
from tests.integration.quantize_bench import LIMIT_S, Bench

from haqa_contract import MADE_SCHEMES, Evaluation, Scheme, TrialReport
from haqa_operator.local.environments import PROJECT
from haqa_runner.measure.reference import load_reference
from haqa_runner.measure.scoring import scoring_windows
from haqa_runner.measure.tokens import load_tokenizer
from haqa_runner.prefork import PreforkedLauncher
from haqa_runner.reference.step import NOT_SERVED

BY_ROUNDING = [scheme.value for scheme in MADE_SCHEMES if scheme not in (Scheme.BF16, Scheme.NVFP4)]
"""NVFP4 has a scale of the activations, which has to be calibrated."""
JOINED = {"gpt-oss", "llama4"}
"""Families whose checkpoints have all experts of a layer in one tensor."""
LOADED_ANEW = "e_score_correction_bias"
"""transformers keeps it in 32 bit, whatever its file has."""


def printed(launcher: PreforkedLauncher, folder: Path, *command: str) -> dict[str, Any]:
    log = folder / "log"
    child = launcher.launch([*command], dict(os.environ), PROJECT, log)
    assert child.wait(LIMIT_S) == 0, log.read_text()
    found: dict[str, Any] = json.loads(next(line for line in log.read_text().splitlines() if line.startswith("{")))
    return found


def test_file_by_file_the_same_artifact_is_made_as_in_one_piece(
    launcher: PreforkedLauncher, models: dict[str, Path], tmp_path: Path
) -> None:
    schemes = [*BY_ROUNDING, "W4A16:64"]
    program = "tests.integration.rounded_by_file"
    found = printed(launcher, tmp_path, program, str(models["tiny"]), str(tmp_path / "out"), *schemes)
    assert found == {scheme: [] for scheme in schemes}


@pytest.mark.nightly
@pytest.mark.parametrize("family", FAMILIES)
def test_families_too_or_they_are_refused_with_the_remedy(
    launcher: PreforkedLauncher, family: str, tmp_path: Path
) -> None:
    log = tmp_path / "made"
    maker = launcher.launch(["tests.families", family, str(tmp_path)], dict(os.environ), PROJECT, log)
    assert maker.wait(LIMIT_S) == 0, log.read_text()
    program = "tests.integration.rounded_by_file"
    found = printed(launcher, tmp_path, program, str(tmp_path / family), str(tmp_path / "out"), "W8A8-INT8")
    if family in JOINED:
        assert "quantize where there is more memory" in found["W8A8-INT8"]
    else:
        assert [name for name in found["W8A8-INT8"] if LOADED_ANEW not in name] == []


def test_scores_do_not_depend_on_where_the_layers_lie(
    launcher: PreforkedLauncher, models: dict[str, Path], tmp_path: Path
) -> None:
    program = "tests.integration.scored_offloaded"
    found = printed(launcher, tmp_path, program, str(models["tiny"]), str(tmp_path))
    assert found["spread"][1:] == [["cpu", "disk"], ["disk"]]
    assert found["same"] == [True, True, True]
    assert max(found["apart"]) < 1e-4


def test_a_baseline_that_is_not_served_leaves_what_others_are_compared_with(
    launcher: PreforkedLauncher, models: dict[str, Path], tmp_path: Path
) -> None:
    bench = Bench(launcher, tmp_path, models["tiny"])
    evaluation = Evaluation(samples=4, sequence_length=64, tasks=("stdlib_cloze",), task_limit=4)
    request = bench.request("BF16", "none", evaluation=evaluation, reference=str(tmp_path / "reference.npz"))
    folder = Path(request.directory)
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(request.model_dump_json())
    command = ["haqa_runner", "reference", "--request", str(folder / "request.json")]
    child = launcher.launch(command, dict(os.environ), folder, folder / "log")
    assert child.wait(LIMIT_S) == 0, (folder / "log").read_text()
    report = TrialReport.model_validate_json((folder / "reference.json").read_bytes())
    assert report.failure is None
    assert report.accuracy is not None
    assert report.accuracy.metrics.keys() >= {
        "perplexity",
        "klDivergence",
        "topTokenAgreement",
        "accuracy.stdlib_cloze",
    }
    assert report.accuracy.metrics["klDivergence"].value == 0
    assert report.load is None
    assert report.warnings[0] == NOT_SERVED
    windows = scoring_windows(evaluation, load_tokenizer(models["tiny"]), 2048)
    kept = load_reference(str(tmp_path / "reference.npz"), windows.digest)
    assert kept is not None, "trials score the same windows"
    assert kept.actual.shape == (4, windows.positions)
