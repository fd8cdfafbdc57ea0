"""guidellm's client in one process and in several: the same requests, each once, and figures over all of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.runner_program import printed_by

PROCESSES = ["1", "2", "3"]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return printed_by("tests.fakes.measured_by_processes")


@pytest.mark.parametrize("processes", PROCESSES)
def test_every_request_is_sent_and_recorded_once(found: dict[str, Any], processes: str) -> None:
    case = found["cases"][processes]
    assert case["processes"] == int(processes)
    assert case["seen"] == case["distinct"]
    # What the server had answered when it was cancelled may not have been read to its end.
    assert case["sent"] <= case["seen"] <= case["sent"] + 2 * 7
    assert case["tokens"] == [20]
    assert case["cancelled"] == 7, "as many as there are streams, whatever the number of processes"


@pytest.mark.parametrize("processes", PROCESSES)
def test_percentiles_are_those_of_all_requests_together(found: dict[str, Any], processes: str) -> None:
    case = found["cases"][processes]
    window, by_hand = case["window"], case["by_hand"]
    assert window["completed"] == by_hand["completed"] >= 28
    for name in ("ttft_ms", "itl_ms", "e2e_ms"):
        shown = {percentile: window[name][percentile] for percentile in by_hand[name]}
        assert shown == pytest.approx(by_hand[name], rel=1e-6)
    assert window["disagreement"] < 0.1


@pytest.mark.parametrize("processes", PROCESSES)
def test_no_process_is_left(found: dict[str, Any], processes: str) -> None:
    assert found["cases"][processes]["left"] == []


def test_a_process_that_dies_is_a_sentence(found: dict[str, Any]) -> None:
    assert found["killed"].startswith("a process of the load generator ended with exit code -9")
    assert "more memory" in found["killed"]
