"""Tunings that the documents show are ones that can be applied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from haqa_operator.api.loading import parse_tuning
from haqa_operator.cluster.act.reconciler import spec_problems

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown() -> list[tuple[str, dict[str, object]]]:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [(file.name, block) for file in documents for block in _BLOCK.findall(file.read_text())]
    loaded = [(name, yaml.safe_load(block)) for name, block in blocks]
    return [(name, one) for name, one in loaded if isinstance(one, dict) and one.get("kind") == "QuantizationTuning"]


@pytest.mark.parametrize(("name", "manifest"), shown(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_tuning_in_a_document_can_be_applied(name: str, manifest: dict[str, object]) -> None:
    assert spec_problems(parse_tuning(manifest)) == []


def test_there_is_one() -> None:
    assert shown()
