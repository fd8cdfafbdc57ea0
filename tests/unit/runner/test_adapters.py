"""LoRA adapters: looked at before a trial, copied to where the engine finds them, and judged over the served base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.adapters import write_adapter
from tests.checkpoints import write_checkpoint
from tests.unit.runner.requests import trial_request

from haqa_contract import AccuracyReport, AdapterSource, FailureReason, ModelSource
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import ModelFacts
from haqa_runner.measure import adapters as measuring
from haqa_runner.measure.accuracy import Accuracy
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.reference import save_reference
from haqa_runner.measure.scoring import Scores, ScoringWindows
from haqa_runner.models.adapters import check_adapter
from haqa_runner.models.facts import model_facts
from haqa_runner.progress import no_progress
from haqa_runner.quantize.look import place_adapter

LAYER = "base_model.model.model.layers.0"
SHAPES = {
    f"{LAYER}.self_attn.q_proj.lora_A.weight": (8, 64),
    f"{LAYER}.self_attn.q_proj.lora_B.weight": (64, 8),
    f"{LAYER}.mlp.down_proj.lora_A.weight": (16, 128),
    f"{LAYER}.mlp.down_proj.lora_B.weight": (64, 16),
}


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    return model_facts(write_checkpoint(tmp_path / "model"), "file:///model")


def test_an_adapter_says_its_rank_and_what_it_changes(tmp_path: Path, facts: ModelFacts) -> None:
    folder = write_adapter(tmp_path / "sql", SHAPES, r=8, rank_pattern={"down_proj": 16}, init_lora_weights="eva")
    found = check_adapter(folder, "hf://org/sql", facts)
    assert (found.rank, found.targets) == (16, ("down_proj", "q_proj"))


def test_experts_of_an_adapter_are_one_module_whatever_their_tensors_are_called(
    tmp_path: Path, facts: ModelFacts
) -> None:
    experts = {
        f"{LAYER}.mlp.experts.base_layer.lora_A.weight": (128, 64),
        f"{LAYER}.mlp.experts.lora_B.weight": (64, 8),
    }
    found = check_adapter(write_adapter(tmp_path / "sql", experts), "hf://org/sql", facts)
    assert (found.rank, found.targets) == (8, ("experts",))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"peft_type": "IA3"}, "it is a IA3 adapter, and vLLM serves LoRA alone"),
        ({"r": 1024}, "its rank is 1024, and vLLM serves up to 512"),
        ({"r": 0}, "says rank 0; a rank is a whole number above 0"),
        ({"rank_pattern": {"q_proj": None}}, "a rank is a whole number above 0"),
        ({"init_lora_weights": "pissa"}, "it changed the model's own weights when it began (init_lora_weights pissa)"),
        ({"trainable_token_indices": [1]}, "since it changes single tokens"),
        ({"use_dora": True}, "vLLM does not serve it, since it is a DoRA; merge it into the model"),
        (
            {"bias": "all", "modules_to_save": ["embed_tokens"]},
            "it has biases and it brings whole modules (embed_tokens)",
        ),
    ],
)
def test_what_vllm_does_not_serve_is_refused(
    tmp_path: Path, facts: ModelFacts, config: dict[str, Any], says: str
) -> None:
    refused(write_adapter(tmp_path / "sql", SHAPES, **config), facts, says)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({f"{LAYER}.self_attn.q_proj.lora_A.weight": (8, 4096)}, "its q_proj takes 4096 inputs, and the model's 64"),
        ({"base_model.model.lm_head.lora_A.weight": (8, 64)}, "it changes lm_head, with which vLLM cannot say"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": (8, 64)}, "it changes its embeddings, with which"),
        ({"model.layers.0.mlp.up_proj.weight": (8, 64)}, "vLLM does not read its tensor model.layers.0.mlp.up_proj"),
        ({}, "has no LoRA matrices (lora_A)"),
        ({"x.--trust-remote-code.lora_A.weight": (8, 64)}, "names no module; fetch the adapter again"),
        ({"x.--api-key=y.lora_A.weight": (8, 64)}, "names no module; fetch the adapter again"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    tmp_path: Path, facts: ModelFacts, shapes: dict[str, tuple[int, ...]], says: str
) -> None:
    refused(write_adapter(tmp_path / "sql", shapes), facts, says)


def test_a_folder_that_is_something_else_says_what(tmp_path: Path, facts: ModelFacts) -> None:
    refused(write_checkpoint(tmp_path / "whole"), facts, "it holds a whole model")
    (folder := tmp_path / "pickled").mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    refused(folder, facts, "no adapter_model.safetensors")


def refused(folder: Path, facts: ModelFacts, says: str) -> None:
    with pytest.raises(TrialFailure) as raised:
        check_adapter(folder, "hf://org/sql", facts)
    assert raised.value.reason is FailureReason.MODEL_FETCH
    assert raised.value.message.startswith("spec.model.adapters: hf://org/sql: ")
    assert says in raised.value.message


def test_an_adapter_is_copied_to_a_folder_of_its_name_and_is_the_one_that_was_looked_at(tmp_path: Path) -> None:
    source = ModelSource(uri=f"file://{write_adapter(tmp_path / 'lies', SHAPES)}")
    (tmp_path / "lies" / "README.md").write_text("not needed")
    place = tmp_path / "place"
    place_adapter(AdapterSource(name="sql", source=source), place, tmp_path / "cache")
    assert {path.name for path in (place / "sql").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    with pytest.raises(TrialFailure, match=r"model\.adapters sql is sha256-\w+ now, and sha256-abc was looked at"):
        place_adapter(AdapterSource(name="sql", source=source, digest="sha256-abc"), place, tmp_path / "cache")


WINDOWS = ScoringWindows(((1, 2, 3), (4, 5, 6)), context=1)


def scores(*windows: float) -> Scores:
    """Log-probabilities of two tokens in each window."""
    actual = np.array([[value, value] for value in windows], dtype=np.float32)
    return Scores(np.zeros((len(windows), 2, 1), dtype=np.int32), actual[:, :, None], actual)


BASE = scores(-2.0, -2.2)


def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: Scores, base: Scores = BASE, *, baseline: bool = False
) -> Any:
    """An adapter that thinks `ours` of the text, over a base that thinks `base` of it."""
    asked: list[str] = []

    def score(endpoint: Endpoint, windows: ScoringWindows, top: int, progress: object) -> Scores:
        asked.append(endpoint.model)
        return ours

    monkeypatch.setattr(measuring, "score", score)
    request = trial_request(tmp_path, reference=str(tmp_path / "reference.npz"), baseline=baseline)
    endpoint = Endpoint("http://127.0.0.1:1", "chat", 128, ("sql",))
    without = Accuracy(AccuracyReport(metrics={}, tokens=int(base.actual.size)), WINDOWS, base)
    found = measuring.measure_adapter(endpoint, "sql", without, request, no_progress)
    assert asked == ["sql"]
    return found


def leave_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: Scores) -> Any:
    save_reference(str(tmp_path / "reference.npz"), BASE, WINDOWS.digest)
    return measured(tmp_path, monkeypatch, theirs, baseline=True)


def test_an_adapter_is_held_against_what_it_does_over_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not leave_baseline(tmp_path, monkeypatch, scores(-1.5, -1.6)).warnings
    metrics = measured(tmp_path, monkeypatch, scores(-1.6, -1.7), scores(-2.1, -2.3)).report.metrics
    assert metrics["adapter.sql"].value == pytest.approx(np.exp(1.65), rel=1e-3)
    assert metrics["adapterRatio.sql"].value == pytest.approx(np.exp(0.1), rel=1e-3)
    assert metrics["adapterEffect.sql"].value == pytest.approx(0.55, rel=1e-3)


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        (scores(-2.0, -2.2), "adapter sql changes nothing over this base (log-probabilities by 0 nats, by 0.55"),
        (scores(-9.0, -9.0), "adapter sql gives garbage over this base: 1.72e+03 times the perplexity"),
    ],
)
def test_an_adapter_that_is_left_out_or_answers_garbage_ends_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: Scores, says: str
) -> None:
    leave_baseline(tmp_path, monkeypatch, scores(-1.5, -1.6))
    with pytest.raises(TrialFailure) as raised:
        measured(tmp_path, monkeypatch, ours)
    assert raised.value.reason is FailureReason.ACCURACY_GATE
    assert says in raised.value.message


def test_an_untrained_adapter_is_a_warning_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (warning,) = leave_baseline(tmp_path, monkeypatch, BASE).warnings
    assert warning == "adapter sql changes nothing over the baseline either: it may never have been trained"
    measured(tmp_path, monkeypatch, BASE)


def test_a_base_that_got_worse_by_itself_is_not_the_adapters_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_baseline(tmp_path, monkeypatch, scores(-1.5, -1.6))
    measured(tmp_path, monkeypatch, scores(-2.5, -2.6), scores(-3.0, -3.2))
