"""What a model folder must hold, and what is read from its headers without loading a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints import write_checkpoint

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.models.checkpoint import MODEL_FILES, check_model, model_files

URI = "file:///models/x"


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(TrialFailure) as raised:
        check_model(folder, URI, **options)
    assert raised.value.reason is FailureReason.MODEL_FETCH
    assert raised.value.message.startswith(f"model {URI}: ")
    return raised.value.message


def test_complete_checkpoint_is_accepted(tmp_path: Path) -> None:
    check_model(write_checkpoint(tmp_path), URI)


def test_missing_config_is_named(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "config.json").unlink()
    assert "no config.json" in refusal(tmp_path)


def test_damaged_config_is_named(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "config.json").write_text("{")
    assert "config.json cannot be read (JSONDecodeError" in refusal(tmp_path)


def test_missing_tokenizer_is_named(tmp_path: Path) -> None:
    assert "no tokenizer" in refusal(write_checkpoint(tmp_path, tokenizer=False))


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "qwen.tiktoken", "tekken.json"])
def test_other_tokenizers_are_accepted(tmp_path: Path, name: str) -> None:
    (write_checkpoint(tmp_path, tokenizer=False) / name).write_text("x")
    check_model(tmp_path, URI)


def test_pickled_weights_are_not_accepted(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert "only pytorch_model.bin, which is not supported" in refusal(tmp_path)


def test_absent_weights_are_named(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").unlink()
    assert "no weights" in refusal(tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "1 of 2 weight files are missing" in refusal(tmp_path)
    assert "model-2.safetensors" in refusal(tmp_path)


def test_weights_cut_short_are_noticed(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path) / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as stream:
        stream.truncate(size - 1)
    assert f"cut short ({size - 1} of {size} bytes)" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00[]"])
def test_weights_that_are_something_else_are_noticed(tmp_path: Path, content: bytes) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").write_bytes(content)
    assert "is not a safetensors file" in refusal(tmp_path)


def test_custom_code_needs_trust_unless_transformers_knows_the_model(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, config={"model_type": "novel", "auto_map": {"AutoConfig": "configuration.Novel"}})
    assert "set model.trustRemoteCode: true" in refusal(tmp_path, knows_model_type=lambda name: False)
    assert '"novel"' in refusal(tmp_path, knows_model_type=lambda name: False)
    check_model(tmp_path, URI, knows_model_type=lambda name: name == "novel")
    check_model(tmp_path, URI, trust_remote_code=True)


def test_files_of_a_model_are_weights_configuration_and_tokenizer(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    for name in ("optimizer.pt", "README.md", "modeling_x.py", "consolidated.safetensors", "training_args.bin"):
        (tmp_path / name).write_text("x")
    (tmp_path / "original").mkdir()
    assert [path.name for path in model_files(tmp_path)] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert "modeling_x.py" in [path.name for path in model_files(tmp_path, code=True)]
    assert not MODEL_FILES.has("original/params.json")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model-q4_k_m.gguf": b"GGUF", "README.md": b"#"}, "a GGUF file for llama.cpp"),
        ({"adapter_config.json": b'{"base_model_name_or_path": "org/base"}'}, "a LoRA adapter of org/base"),
        ({"adapter_config.json": b"[]"}, "a LoRA adapter and no model; name its base"),
        ({"config.json": b"<!DOCTYPE html><p>log in"}, "is a web page"),
        ({"config.json": b"version https://git-lfs.github.com/spec/v1"}, "a pointer of git-lfs"),
        ({}, "name the folder that holds config.json"),
    ],
)
def test_folder_that_is_something_else_says_what(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run `git lfs pull`"),
        (b"\n<html><body>proxy", "a web page"),
    ],
)
def test_weights_that_are_something_else_say_what(tmp_path: Path, content: bytes, said: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert said in refusal(tmp_path)


def test_adapter_beside_a_model_is_no_part_of_it_and_alone_is_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "a LoRA adapter" in refusal(tmp_path)
    write_checkpoint(tmp_path)
    assert "adapter_model.safetensors" not in [path.name for path in model_files(tmp_path)]
    check_model(tmp_path, URI)
