"""What a model is made of, as far as config and headers show it: there is no torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints import LLAMA_SHAPES, write_checkpoint, write_safetensors

from haqa_contract.model_facts import KvCache, Matrix, ModelFacts, Role, Split
from haqa_runner.models.architecture.facts import facts_of_headers
from haqa_runner.models.checkpoint import TensorHeader
from haqa_runner.models.facts import model_facts

URI = "file:///model"


def named(config: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> ModelFacts:
    headers = [TensorHeader(name, "BF16", shape, 2) for name, shape in shapes.items()]
    return facts_of_headers(config, headers, "no class")


def roles(facts: ModelFacts) -> dict[str, Role]:
    return {matrix.name: matrix.role for matrix in facts.matrices}


def test_facts_come_from_the_headers(tmp_path: Path) -> None:
    facts = model_facts(write_checkpoint(tmp_path), URI)
    assert (facts.architecture, facts.source) == ("LlamaForCausalLM", "headers")
    assert (facts.layers, facts.hidden_size, facts.experts) == (1, 64, 0)
    assert [matrix for matrix in facts.matrices if matrix.rounded] == [
        Matrix(
            name="self_attn.q_proj", role=Role.ATTENTION, rows=64, columns=64, count=1, split=Split.ROWS, rounded=True
        ),
        Matrix(name="mlp.gate_proj", role=Role.MLP, rows=128, columns=64, count=1, split=Split.ROWS, rounded=True),
        Matrix(name="mlp.down_proj", role=Role.MLP, rows=64, columns=128, count=1, split=Split.COLUMNS, rounded=True),
    ]
    assert facts.parameters == 32 * 64 * 2 + 64 * 64 + 2 * 128 * 64 + 64
    assert facts.weight_bytes == 2 * facts.parameters
    assert facts.quantized_by is None
    assert "its shapes are taken from its files" in facts.notes[0]


def test_all_shards_are_put_together(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, config={"num_hidden_layers": 2})
    write_safetensors(tmp_path / "second.safetensors", {"model.layers.1.mlp.up_proj.weight": (128, 64)})
    index = {"weight_map": {"a": "model.safetensors", "b": "second.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert roles(model_facts(tmp_path, URI))["mlp.up_proj"] is Role.MLP


def test_each_part_of_a_layer_has_its_role() -> None:
    config = {"architectures": ["X"], "num_hidden_layers": 2, "hidden_size": 64, "num_experts_per_tok": 2}
    facts = named(
        config,
        {
            "model.language_model.embed_tokens.weight": (32, 64),
            "model.language_model.layers.0.linear_attn.in_proj_qkv.weight": (128, 64),
            "model.language_model.layers.0.linear_attn.in_proj_a.weight": (4, 64),
            "model.language_model.layers.0.linear_attn.conv1d.weight": (128, 1, 4),
            "model.language_model.layers.0.linear_attn.A_log": (4,),
            "model.language_model.layers.1.self_attn.qkv_proj.weight": (128, 64),
            "model.language_model.layers.1.self_attn.o_proj.weight": (64, 64),
            "model.language_model.layers.0.mlp.gate.weight": (8, 64),
            "model.language_model.layers.0.mlp.shared_expert_gate.weight": (1, 64),
            "model.language_model.layers.0.mlp.shared_expert.down_proj.weight": (64, 96),
            **{f"model.language_model.layers.0.mlp.experts.{n}.up_proj.weight": (32, 64) for n in range(8)},
            "model.visual.blocks.0.attn.qkv.weight": (96, 32),
            "model.visual.merger.linear_fc1.weight": (64, 32),
            "model.language_model.layers.2.mlp.up_proj.weight": (32, 64),
            "lm_head.weight": (32, 64),
        },
    )
    assert roles(facts) == {
        "model.language_model.embed_tokens": Role.EMBEDDING,
        "linear_attn.in_proj_qkv": Role.LINEAR_ATTENTION,
        "linear_attn.in_proj_a": Role.LINEAR_ATTENTION,
        "self_attn.qkv_proj": Role.ATTENTION,
        "self_attn.o_proj": Role.ATTENTION,
        "mlp.gate": Role.ROUTER,
        "mlp.shared_expert_gate": Role.ROUTER,
        "mlp.shared_expert.down_proj": Role.SHARED_EXPERT,
        "mlp.experts.up_proj": Role.ROUTED_EXPERT,
        "model.visual.blocks.attn.qkv": Role.VISION,
        "model.visual.merger.linear_fc1": Role.VISION,
        "mlp.up_proj": Role.PREDICTION,
        "lm_head": Role.OUTPUT_HEAD,
    }
    assert {matrix.name for matrix in facts.matrices if matrix.rounded} == {
        "linear_attn.in_proj_qkv",
        "self_attn.qkv_proj",
        "self_attn.o_proj",
        "mlp.shared_expert.down_proj",
        "mlp.experts.up_proj",
    }
    assert (facts.experts, facts.experts_per_token) == (8, 2)
    assert facts.cache == (KvCache(layers=1, numbers=128 - 64),)
    assert facts.state_numbers == 128 * 3


def test_names_that_say_nothing_give_no_verdict() -> None:
    facts = named({"architectures": ["X"], "num_hidden_layers": 2}, {"a.b": (8, 8), "c": (3,)})
    assert (facts.source, facts.matrices, facts.cache, facts.parameters) == ("nothing", (), None, 67)
    assert "whether it fits is seen in its trials" in facts.notes[0]


@pytest.mark.parametrize(
    ("window", "kinds", "expected"),
    [
        ({}, None, (KvCache(layers=2, numbers=32),)),
        ({"sliding_window": 8}, None, (KvCache(layers=2, numbers=32, window=8),)),
        ({"sliding_window": 8, "use_sliding_window": False}, None, (KvCache(layers=2, numbers=32),)),
        (
            {"sliding_window": 8},
            ["sliding_attention", "full_attention"],
            (KvCache(layers=1, numbers=32, window=8), KvCache(layers=1, numbers=32)),
        ),
        (
            {"attention_chunk_size": 16},
            ["chunked_attention", "full_attention"],
            (KvCache(layers=1, numbers=32, window=16), KvCache(layers=1, numbers=32)),
        ),
    ],
)
def test_windows_bound_what_is_cached(
    window: dict[str, Any], kinds: list[str] | None, expected: tuple[KvCache, ...]
) -> None:
    shapes = {f"model.layers.{n}.self_attn.{name}_proj.weight": (16, 64) for n in range(2) for name in ("q", "k", "v")}
    config = {"num_hidden_layers": 2, "hidden_size": 64, **window, **({"layer_types": kinds} if kinds else {})}
    assert named(config, shapes).cache == expected


def test_window_bounds_what_a_sequence_keeps() -> None:
    assert KvCache(layers=2, numbers=10, window=100).cached_by(1000) == 2000
    assert KvCache(layers=2, numbers=10, tokens_per_entry=4).cached_by(9) == 60


def test_quantized_folder_is_noticed_by_any_of_its_files(tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain")
    (plain / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    assert model_facts(plain, URI).quantized_by == "ModelOpt FP8"
    packed = write_checkpoint(tmp_path / "packed", {**LLAMA_SHAPES, "model.layers.0.mlp.up_proj.qweight": (8, 8)})
    assert model_facts(packed, URI).quantized_by == "GPTQ or AWQ, by its tensors"
