"""Layers that predict are left alone, whatever an engine puts between their names, and no others."""

from __future__ import annotations

import re

import pytest

from haqa_runner.quantize.layer_patterns import patterns_of

BODY = [f"model.layers.{n}.self_attn.q_proj" for n in range(3)]


@pytest.mark.parametrize(
    ("name", "pattern", "in_engine"),
    [
        ("mtp.layers.0.eh_proj.weight", r"(.*\.)?mtp\..*", "model.mtp.layers.0.eh_proj"),
        ("mtp.fc.weight", r"(.*\.)?mtp\..*", "mtp.fc"),
        ("model.mtp.fc.weight", r"(.*\.)?mtp\..*", "model.mtp.fc"),
        ("model.mtp.layers.0.mlp.up_proj.weight", r"(.*\.)?mtp\..*", "model.mtp.layers.0.mlp.up_proj"),
        ("model.mtp_layers.0.input_proj.weight", r"(.*\.)?mtp_layers\..*", "model.mtp_layers.0.input_proj"),
        ("model.mtp_block.0.mlp.up_proj.weight", r"(.*\.)?mtp_block\..*", "model.mtp_block.0.mlp.up_proj"),
        ("model.layers.61.eh_proj.weight", r"(.*\.)?layers\.61\..*", "model.layers.61.mtp_block.eh_proj"),
        (
            "language_model.model.layers.61.eh_proj.weight",
            r"(.*\.)?layers\.61\..*",
            "language_model.model.layers.61.eh_proj",
        ),
    ],
)
def test_pattern_is_of_the_layers_that_predict(name: str, pattern: str, in_engine: str) -> None:
    assert patterns_of([name], BODY) == [f"re:{pattern}"]
    assert re.match(pattern, in_engine)
    assert not any(re.match(pattern, module) for module in BODY)


def test_modules_are_named_one_by_one_where_a_pattern_would_take_more() -> None:
    names = ["odd.layers.0.guess.weight", "odd.guess.bias"]
    assert patterns_of(names, BODY) == ["odd.guess.bias", "odd.layers.0.guess"]
