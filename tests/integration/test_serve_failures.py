"""Starts of the real vLLM that fail, and what is said about them."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from haqa_contract import EngineLaunch, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.serve.engine import EngineProcess
from haqa_runner.serve.launching import Spawn

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder without weights: every failure here comes before they are looked for."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "vocab_size": 256,
        "max_position_embeddings": 256,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def failure_of(engines: Spawn, folder: Path, model: Path, *args: str) -> TrialFailure:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = EngineLaunch(
        args=(f"--model={model}", "--served-model-name=m", *args),
        env={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        served_model_name="m",
        port=port,
        startup_timeout_s=240,
    )
    with pytest.raises(TrialFailure) as caught:
        EngineProcess(launch, folder / "log", engines).start()
    return caught.value


def test_an_argument_that_vllm_does_not_know(engines: Spawn, tmp_path: Path, model: Path) -> None:
    failure = failure_of(engines, tmp_path, model, "--flux-capacitance=9")
    assert failure.reason is FailureReason.ENGINE_LOAD_FAILED
    assert "does not know the argument --flux-capacitance" in failure.message


def test_an_architecture_that_vllm_does_not_know(engines: Spawn, tmp_path: Path, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["FantasyForCausalLM"]}))
    failure = failure_of(engines, tmp_path, model)
    assert failure.reason is FailureReason.ENGINE_LOAD_FAILED
    assert "does not support the model's architecture 'FantasyForCausalLM'" in failure.message


def test_a_context_that_the_model_was_not_made_for(engines: Spawn, tmp_path: Path, model: Path) -> None:
    failure = failure_of(engines, tmp_path, model, "--max-model-len=4096")
    assert "max-model-len 4096 is beyond what the model was made for (256 tokens)" in failure.message


def test_a_folder_that_is_not_there(engines: Spawn, tmp_path: Path, model: Path) -> None:
    shutil.rmtree(model)
    failure = failure_of(engines, tmp_path, model)
    assert failure.reason is FailureReason.ENGINE_LOAD_FAILED
    assert f"there is no model in {model}" in failure.message
