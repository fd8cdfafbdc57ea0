"""guidellm's client in our closed loop, against a scripted server: figures when it behaves, sentences when not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.runner_program import printed_by


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return printed_by("tests.fakes.measured")


def test_a_steady_server_is_measured_as_it_is(cases: dict[str, Any]) -> None:
    (window,) = cases["good"]["windows"]
    assert window["completed"] >= 8
    assert window["failed"] == 0
    assert window["disagreement"] < 0.1
    assert window["itl_ms"]["p50"] == pytest.approx(5, rel=0.6)
    assert window["ttft_ms"]["mean"] + 19 * window["tpot_ms"]["mean"] == pytest.approx(
        window["e2e_ms"]["mean"], rel=0.1
    )


def test_prompts_have_exactly_the_length_and_no_two_begin_alike(cases: dict[str, Any]) -> None:
    assert cases["good"]["prompt_lengths"] == [32]
    assert cases["good"]["distinct"]


@pytest.mark.parametrize(
    ("case", "reason", "says"),
    [
        ("refuses", "LoadErrors", "HTTP 400 Bad Request (HTTP 400: too long by 7)"),
        ("breaks", "LoadErrors", "HTTP 500 Internal Server Error (HTTP 500: boom)"),
        ("miscounts", "MetricsMissing", "can be trusted, the last one because the engine counted"),
        ("hangs", "LoadErrors", "no complete answer within 0.5 s"),
        ("restarts", "EngineLoadFailed", "its process started anew"),
        ("says nothing", "MetricsMissing", "take disable-log-stats out"),
    ],
)
def test_a_server_that_misbehaves_is_a_sentence(cases: dict[str, Any], case: str, reason: str, says: str) -> None:
    assert cases[case]["reason"] == reason
    assert says in cases[case]["message"]
