"""What is said of a model's folder before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters import write_adapter
from tests.checkpoints import write_checkpoint

from haqa_operator.local.preflight import adapter_problems, model_problems


def said(folder: Path) -> str:
    return "; ".join(model_problems(f"file://{folder}"))


def test_complete_folder_is_accepted(tmp_path: Path) -> None:
    assert said(write_checkpoint(tmp_path)) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adapter_config.json", "a LoRA adapter and no model; give its base, and this one in model.adapters"),
        ("model-q4_k_m.gguf", "GGUF files for llama.cpp; give the original model's folder"),
        ("README.md", "no config.json there; give a folder in the Hugging Face layout"),
    ],
)
def test_folder_that_is_something_else_says_what(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).write_text("{}")
    assert expected in said(tmp_path)


def test_adapter_is_no_weights(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "adapter_model.safetensors")
    assert "no weights there" in said(tmp_path)


def test_an_adapters_folder_is_looked_at_too(tmp_path: Path) -> None:
    field = "spec.model.adapters sql"
    folder = write_adapter(tmp_path / "sql", {"base_model.model.q_proj.lora_A.weight": (8, 64)})
    assert adapter_problems(f"file://{folder}", field) == []
    (folder / "adapter_model.safetensors").unlink()
    (problem,) = adapter_problems(f"file://{folder}", field)
    assert problem.startswith(f"{field}: file://{folder}: no adapter_model.safetensors there")
    (gone,) = adapter_problems(f"file://{tmp_path}/gone", field)
    assert "no such folder; give the folder that holds adapter_config.json" in gone
    assert adapter_problems("hf://org/sql", field) == []
