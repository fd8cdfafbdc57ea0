"""The command line refuses what cannot work with a sentence and exit code 2, before any time is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.checkpoints import write_checkpoint
from typer.testing import CliRunner

from haqa_operator.cli import app
from haqa_operator.cli.doctor import Level, examine
from haqa_operator.replay.tables.export import export_table

EXAMPLES = Path(__file__).parents[3] / "examples"
TABLE = """scheme,algorithm,throughput,perplexity
BF16,none,100,10
W8A8-INT8,rtn,150,10.1
W4A16,rtn,120,12
FP8-DYNAMIC,rtn,90,10
"""


def tuning(tmp_path: Path, **spec: object) -> Path:
    file = tmp_path / "tuning.yaml"
    document = {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTuning",
        "metadata": {"name": "t"},
        "spec": {"model": {"uri": "file:///no/such/model"}, "nodePools": [{"name": "a"}], **spec},
    }
    file.write_text(yaml.safe_dump(document))
    return file


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(example: Path) -> None:
    code, output = run("validate", example)
    assert code == 0, output


def test_a_wrong_model_path_is_named_before_anything_starts(tmp_path: Path) -> None:
    code, output = run("tune", tuning(tmp_path), "--out", tmp_path / "out")
    assert code == 2
    assert "spec.model.uri: file:///no/such/model: no such folder" in output
    assert not (tmp_path / "out").exists()


def test_a_missing_tokenizer_is_named_before_anything_starts(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (model / "model.safetensors").write_bytes(b"")
    code, output = run("tune", tuning(tmp_path, model={"uri": f"file://{model}"}), "--out", tmp_path / "out")
    assert code == 2
    assert "no tokenizer there" in output


def test_an_unknown_engine_setting_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = tuning(tmp_path, search={"engine": {"max-num-seq": [1, 2]}})
    code, output = run("tune", file, "--out", tmp_path / "out")
    assert code == 2
    assert "max-num-seqs" in output


def test_an_unknown_pool_is_named(tmp_path: Path) -> None:
    code, output = run("tune", tuning(tmp_path), "--pool", "b", "--out", tmp_path / "out")
    assert code == 2
    assert "no such pool; nodePools has a" in output


def test_a_report_of_nothing_says_what_to_run_first(tmp_path: Path) -> None:
    code, output = run("report", tuning(tmp_path), "--out", tmp_path / "out")
    assert code == 2
    assert "run `haqa tune" in output


def test_the_schema_describes_every_field() -> None:
    code, output = run("schema")
    assert code == 0
    assert json.loads(output)["properties"]["spec"]


def replayed(tmp_path: Path, *options: object, **spec: object) -> list[dict[str, Any]]:
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    code, output = run("replay", table, tuning(tmp_path, **spec), "--json", *options)
    assert code == 0, output
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_replay_finds_the_best_row_that_keeps_the_limits(tmp_path: Path) -> None:
    limit = {"metric": "perplexity", "maxDegradationPercent": 5}
    (report,) = replayed(tmp_path, "--strategy", "grid", constraints=[limit])
    assert report["decision"]["verdict"] == "Winner"
    assert report["winnerFraction"] == 1.0
    assert report["optimum"]["configuration"]["scheme"] == "W8A8-INT8"


@pytest.mark.parametrize("strategy", ["bayesian", "random", "grid"])
def test_the_same_seed_replays_the_same_trials(tmp_path: Path, strategy: str) -> None:
    once = replayed(tmp_path, "--strategy", strategy, "--seed", 3, "--budget", 2)
    again = replayed(tmp_path, "--strategy", strategy, "--seed", 3, "--budget", 2)
    assert once == again


def test_a_replay_without_an_agent_says_so_in_one_line(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    code, output = run("replay", table, tuning(tmp_path))
    assert code == 0, output
    assert "no agent configured (search.agent), so bayesian search proposes every trial" in output


@pytest.mark.parametrize("address", ["http://user:pass-word@host/v1", "host:8000/v1", "http://host/v1?x="])
def test_an_address_of_an_llm_that_is_none_is_one_sentence(tmp_path: Path, address: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    options = ("--agent-model", "openai/x", "--agent-api-base", address)
    code, output = run("replay", table, tuning(tmp_path), *options)
    assert code == 2
    assert output.startswith("error: --agent-model or --agent-api-base: apiBase: ")
    assert "pass-word" not in output


def test_doctor_names_a_missing_environment_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQA_SERVING_PYTHON", str(tmp_path / "bin" / "python"))
    missing = [finding for finding in examine(tmp_path) if finding.level is Level.MISSING]
    assert any("serving environment" in finding.what and "make envs" in finding.remedy for finding in missing)


def test_an_empty_search_exports_an_empty_table() -> None:
    assert "scheme" in export_table([])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"search": {"engine": {"max-num-seq": [8]}}}, "spec.search.engine.max-num-seq is not a setting of vLLM"),
        ({"objective": {"metric": "speed"}}, "spec.objective[0].metric: 'speed' is not a metric"),
        ({"nodePools": [{"name": "a", "env": {"LD_LIBRARY_PATH": "/x"}}]}, "LD_LIBRARY_PATH"),
    ],
)
def test_validate_finds_what_only_vllm_or_haqa_knows(tmp_path: Path, spec: dict[str, object], sentence: str) -> None:
    code, output = run("validate", tuning(tmp_path, **spec))
    assert code == 2
    assert sentence in output


def test_an_architecture_that_vllm_does_not_serve_is_named_before_anything_starts(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model", config={"architectures": ["LamaForCausalLM"]})
    code, output = run("tune", tuning(tmp_path, model={"uri": f"file://{model}"}), "--out", tmp_path / "out")
    assert code == 2
    assert "does not serve the architecture LamaForCausalLM; did you mean LlamaForCausalLM?" in output
    assert not (tmp_path / "out").exists()
