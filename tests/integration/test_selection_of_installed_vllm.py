"""HAQA's feasibility table is what the installed vLLM would select on devices that are not here.

The CPU build has the Python of the GPU wheels; what their compiled code answers is on record. `make upstream` asks a
wheel itself.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.upstream.arguments import commands, refusals
from tests.upstream.comparing import ask_vllm, compare, lines, without_difference, without_reason
from tests.upstream.questions import DEVICES

from haqa_operator.local.environments import engine_version, serving_environment
from haqa_operator.serving.versions import parse_version

pytestmark = pytest.mark.timeout(600)

QUICK = [device for device in DEVICES if device.name in ("CUDA 8.0", "CUDA 8.9", "CUDA 10.0", "ROCm gfx942", "XPU")]
"""The others have their turn in `make upstream`: Hopper too, where vLLM prefers kernels of a package that the CPU build
does not bring (humming-kernels)."""


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    return ask_vllm(QUICK)


def test_every_difference_from_vllm_s_selection_has_a_reason(answer: dict[str, Any]) -> None:
    assert list(lines(without_reason(compare(answer, QUICK), answer["version"]))) == []


def test_every_reason_for_these_devices_has_a_difference(answer: dict[str, Any]) -> None:
    asked = {device.name for device in QUICK}
    unneeded = without_difference(compare(answer, QUICK), answer["version"])
    assert [reason for reason in unneeded if reason.devices and set(reason.devices) <= asked] == []


def test_vllm_s_parser_takes_every_value_of_the_default_spaces() -> None:
    version = engine_version(serving_environment())
    assert version is not None
    asked = commands(parse_version(version))
    assert len(asked) > 50
    assert refusals(asked) == {}


def test_what_vllm_does_not_take_is_noticed() -> None:
    asked: dict[str, tuple[str, ...]] = {
        "no such setting": ("--model=/m", "--max-num-sequences=4"),
        "not a number": ("--model=/m", "--max-num-seqs=many"),
        "not among the choices": ("--model=/m", "--kv-cache-dtype=fp3"),
    }
    assert refusals(asked).keys() == asked.keys()
