"""A GPU wheel of vLLM as the judge of what HAQA takes for granted: `make upstream VLLM=0.33.0`."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.upstream.arguments import commands, refusals
from tests.upstream.comparing import (
    ask_vllm,
    compare,
    lines,
    recorded_answers,
    without_difference,
    without_reason,
)
from tests.upstream.releases import extract
from tests.upstream.wheels import driver_for, unpacked

from haqa_operator.serving.releases import difference, extracted, known_releases, nearest_release
from haqa_operator.serving.versions import dotted, parse_version

VLLM = os.environ.get("VLLM") or dotted(known_releases()[-1])

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    tree = unpacked(VLLM)
    return ask_vllm(tree=tree, driver=driver_for(tree))


def test_the_wheel_is_the_one_that_was_asked_for(answer: dict[str, Any]) -> None:
    assert answer["version"] == VLLM


def test_compiled_code_answers_as_recorded(answer: dict[str, Any]) -> None:
    assert answer["compiled"] == recorded_answers()


def test_every_difference_from_vllm_s_selection_has_a_reason(answer: dict[str, Any]) -> None:
    assert list(lines(without_reason(compare(answer), VLLM))) == []


def test_every_reason_has_a_difference(answer: dict[str, Any]) -> None:
    assert without_difference(compare(answer), VLLM) == []


def test_catalogue_of_settings_is_the_wheel_s() -> None:
    """If not: `.venv/bin/python -m tests.upstream.releases VERSION`, and read the difference."""
    release = nearest_release(parse_version(VLLM))
    assert dotted(release) == VLLM
    found = difference(extracted(release), extract(VLLM))
    assert found == difference(extracted(release), extracted(release))


def test_its_parser_takes_every_value_of_the_default_spaces() -> None:
    asked = commands(parse_version(VLLM))
    assert len(asked) > 50
    assert refusals(asked, unpacked(VLLM)) == {}
