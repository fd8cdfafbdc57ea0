"""Weight files without their weights: read like whole ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checkpoints import LLAMA_SHAPES, write_safetensors

from haqa_contract.failures import TrialFailure
from haqa_runner.models.checkpoint import read_header
from haqa_runner.models.headers import leave_header

MANY = {f"model.layers.{layer}.mlp.experts.{expert}.w1.weight": (2, 2) for layer in range(99) for expert in range(160)}


def left(source: Path, target: Path) -> list[int]:
    """Writes the header to `target`; returns what was asked for."""
    asked: list[int] = []

    def beginning(length: int) -> bytes:
        asked.append(length)
        return source.read_bytes()[:length]

    leave_header(target, source.stat().st_size, beginning)
    return asked


def test_a_header_is_read_as_that_of_the_whole_file(tmp_path: Path) -> None:
    source, target = write_safetensors(tmp_path / "a.safetensors", LLAMA_SHAPES), tmp_path / "b.safetensors"
    assert len(left(source, target)) == 1
    assert read_header(target, "") == read_header(source, "")
    assert target.stat().st_size == source.stat().st_size


def test_a_long_header_is_asked_for_once_more(tmp_path: Path) -> None:
    source, target = write_safetensors(tmp_path / "a.safetensors", MANY), tmp_path / "b.safetensors"
    first, second = left(source, target)
    assert first == 2**20 < second < source.stat().st_size
    assert read_header(target, "") == read_header(source, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a safetensors file"),
        (b"<!doctype html><title>Sign in</title>", "a web page"),
        (b"\xff" * 2**21, "not a safetensors file"),
    ],
)
def test_what_is_no_weight_file_is_asked_for_once_and_refused(tmp_path: Path, content: bytes, said: str) -> None:
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    source.write_bytes(content)
    assert len(left(source, target)) <= 1
    with pytest.raises(TrialFailure, match=said):
        read_header(target, "")
