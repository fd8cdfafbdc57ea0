"""`haqa tune` of a model with a published checkpoint and an adapter: both are looked at, served and compared."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.quantize_bench import LIMIT_S
from tests.integration.this_cpu import ruled_out_here

from haqa_contract import Scheme
from haqa_operator.local.environments import PROJECT
from haqa_runner.prefork import PreforkedLauncher

HAQA = PROJECT / ".venv" / "bin" / "haqa"

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def places(launcher: PreforkedLauncher, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published-tune")
    program = (
        "import sys; from pathlib import Path; from tests import adapters, published\n"
        "model, folder = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "published.make('gptq', model, folder / 'gptq')\n"
        "adapters.make_adapter(model, folder / 'sql', strength=0.5)"
    )
    command = ["-c", program, str(models["tiny"]), str(folder)]
    assert launcher.launch(command, dict(os.environ), PROJECT, folder / "log").wait(LIMIT_S) == 0
    return folder


def tuned(
    folder: Path, model: dict[str, Any], schemes: list[str], trials: int, **engine: list[int]
) -> dict[str, dict[str, Any]]:
    """The finished trials of a tuning, by name."""
    document = {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTuning",
        "metadata": {"name": "published"},
        "spec": {
            "model": model,
            "nodePools": [{"name": "here"}],
            "workload": {"inputTokens": 16, "outputTokens": 8, "concurrency": [2], "requestsPerLevel": 8, "repeats": 2},
            "search": {
                "strategy": "grid",
                "schemes": schemes,
                "algorithms": ["rtn"],
                "groupSizes": [64],
                "engineDefaults": False,
                "engine": {name.replace("_", "-"): values for name, values in engine.items()},
                "earlyStopping": False,
                "fixedEngine": {"enforce-eager": True},
            },
            "evaluation": {"samples": 2, "sequenceLength": 32},
            "budget": {"maxTrials": trials},
            "confirmation": {"rounds": 0},
        },
    }
    file = folder / "tuning.yaml"
    file.write_text(yaml.safe_dump(document))
    command = [str(HAQA), "tune", str(file), "--out", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (journal,) = (folder / "out").glob("published/here/*/journal.jsonl")
    entries = [json.loads(line.partition(" ")[2]) for line in journal.read_text().splitlines()]
    return {entry["data"]["name"]: entry["data"] for entry in entries if entry["kind"] == "finished"}


def test_variant_and_adapter_are_served_and_measured(places: Path, models: dict[str, Path], tmp_path: Path) -> None:
    if ruled_out_here(Scheme.W4A16):
        pytest.fail("this CPU serves no GPTQ; HAQA_TEST_ISA is meant for machines that have AVX512")
    model = {
        "uri": f"file://{models['tiny']}",
        "variants": [{"label": "theirs", "uri": f"file://{places / 'gptq'}"}],
        "adapters": [{"name": "sql", "uri": f"file://{places / 'sql'}"}],
    }
    trials = tuned(tmp_path, model, ["BF16", "W8A8-INT8", "W4A16"], 2)
    by_weights = {
        (trial["proposal"]["configuration"]["scheme"], trial["proposal"]["configuration"]["algorithm"]): trial["status"]
        for trial in trials.values()
    }
    # W8A8-INT8 is ruled out: vLLM serves no adapters with it on a CPU.
    assert set(by_weights) == {("BF16", "none"), ("W4A16", "published"), ("W4A16", "rtn")}
    for (_, algorithm), status in by_weights.items():
        assert status["phase"] == "Succeeded", status
        metrics = status["metrics"]
        assert metrics["adapterEffect.sql"]["value"] > 0.01
        assert ("adapterRatio.sql" in metrics) is (algorithm != "none")
        assert any(argument.startswith("sql=") for argument in status["engineArgs"])


def test_a_quantized_model_is_its_own_baseline(places: Path, tmp_path: Path) -> None:
    if ruled_out_here(Scheme.W4A16):
        pytest.fail("this CPU serves no GPTQ; HAQA_TEST_ISA is meant for machines that have AVX512")
    model = {"uri": f"file://{places / 'gptq'}"}
    baseline, other = tuned(tmp_path, model, ["BF16"], 1, max_num_seqs=[4]).values()
    for trial in (baseline, other):
        configuration = trial["proposal"]["configuration"]
        assert (configuration["scheme"], configuration["algorithm"]) == ("W4A16", "published")
        assert trial["status"]["phase"] == "Succeeded", trial["status"]
