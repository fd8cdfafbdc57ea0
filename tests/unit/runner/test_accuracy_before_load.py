"""The step as a whole: the cheapest question first, and what was measured stays in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.vllm_server import MODEL, Behaviour, fake_vllm
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from haqa_contract import (
    AccuracyGate,
    Configuration,
    EngineLaunch,
    Evaluation,
    FailureReason,
    ModelSource,
    TrialReport,
    TrialRequest,
    Workload,
)
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.step import model_folder, run
from haqa_runner.progress import Phases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trial's folder whose model is a byte-level tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    (tmp_path / "text.txt").write_text("".join(f"Line {number} of a text.\n\n" for number in range(50)))
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "!"}}))
    return tmp_path


def request(folder: Path, port: int, **changes: Any) -> TrialRequest:
    text = (folder / "text.txt").as_uri()
    return TrialRequest(
        **{
            "tuning": "t",
            "trial": "t-1",
            "pool": "p",
            "model": ModelSource(uri="file:///m"),
            "configuration": Configuration(),
            "evaluation": Evaluation(samples=4, sequence_length=8, dataset=text),
            "workload": Workload(input_tokens=8, output_tokens=4, concurrency=(1,), dataset=text),
            "engine": EngineLaunch(args=(), served_model_name=MODEL, port=port),
            "store": str(folder),
            "directory": str(folder),
            "cache": str(folder),
            **changes,
        }
    )


def measured(folder: Path, behaviour: Behaviour, **changes: Any) -> tuple[TrialReport, Phases, list[dict[str, Any]]]:
    phases = Phases()
    with fake_vllm(behaviour) as server:
        port = int(server.base_url.rpartition(":")[2])
        report = run(request(folder, port, **changes), phases, lambda phase, done, message="": None)
        return report, phases, server.state.requests


def sane(n: int) -> list[int]:
    return [n % 3 + 5, 6, 7]


def test_a_missed_gate_ends_the_trial_before_the_load_test_with_its_accuracy_kept(folder: Path) -> None:
    gates = (AccuracyGate(metric="perplexity", max=2.0),)
    report, phases, requests = measured(folder, Behaviour(answer=sane, logprob=-1.5), gates=gates)
    assert report.failure is not None
    assert report.failure.reason is FailureReason.ACCURACY_GATE
    assert "perplexity is 4.482" in report.failure.message
    assert report.accuracy is not None
    assert report.accuracy.tokens == 4 * 7
    assert report.load is None
    assert not any(body.get("stream") for body in requests)
    assert [phase.name for phase in phases.so_far] == ["overhead", "sanity", "accuracy"]


def test_garbage_is_not_even_scored(folder: Path) -> None:
    report, _, requests = measured(folder, Behaviour(answer=lambda n: [0] * 16))
    assert report.failure is not None
    assert "one token over and over" in report.failure.message
    assert report.accuracy is None
    assert not any("prompt_logprobs" in body for body in requests)


def test_the_machine_is_described(folder: Path) -> None:
    report, _, _ = measured(folder, Behaviour(answer=lambda n: [0] * 16))
    assert {"cpu", "cores", "kernel", "python"} <= set(report.machine)


def test_the_report_says_how_long_a_request_the_engine_takes(folder: Path) -> None:
    report, _, _ = measured(folder, Behaviour(answer=lambda n: [0] * 16, max_model_len=777))
    assert report.max_model_len == 777


def test_a_workload_that_does_not_fit_is_refused_before_anything_is_measured(folder: Path) -> None:
    with pytest.raises(TrialFailure, match="more than the engine's max-model-len 10"):
        measured(folder, Behaviour(max_model_len=10))


def test_another_model_on_the_port_is_refused(folder: Path) -> None:
    with pytest.raises(TrialFailure, match="serves other, not tiny"):
        measured(folder, Behaviour(model="other"))


def test_the_tokenizer_is_looked_for_where_the_engine_was_told_to(folder: Path, tmp_path: Path) -> None:
    launch = EngineLaunch(args=("--model", "/models/x"), served_model_name=MODEL, port=1)
    elsewhere = request(folder, 1, engine=launch, directory=str(tmp_path / "empty"))
    assert model_folder(elsewhere) == Path("/models/x")
    assert model_folder(request(folder, 1, engine=launch)) == folder / "model"


def test_a_missing_tokenizer_is_a_sentence(folder: Path) -> None:
    (folder / "model" / "tokenizer.json").write_text("{not json")
    with pytest.raises(TrialFailure, match=r"the tokenizer in .* cannot be read"):
        measured(folder, Behaviour())
