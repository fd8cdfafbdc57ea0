"""What is said about figures that count but should be read with care."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haqa_contract import Window
from haqa_runner.measure.capacity import Effort
from haqa_runner.measure.caveats import caveats
from haqa_runner.measure.engine_metrics import Reading
from haqa_runner.measure.traffic import SentRequest
from haqa_runner.measure.window import Observed, Plan, window_of

COUNTERS = {
    "generation_tokens": 0.0,
    "prompt_tokens": 0.0,
    "cached_prompt_tokens": 0.0,
    "preemptions": 0.0,
    "requests": 0.0,
}
BEFORE = Reading(at=0.0, counters=COUNTERS)
AFTER = Reading(at=1.0, counters={**COUNTERS, "generation_tokens": 2.0, "prompt_tokens": 8.0, "requests": 1.0})
SENT = SentRequest(started=0.1, ended=0.4, arrivals=((0.3, 1), (0.4, 1)))
QUIET = Observed(Plan(8, 1, 1), 0.0, BEFORE, AFTER, (SENT,))


def said(observed: Observed, window: Window | None = None, shared_prefixes: bool = False) -> list[str]:
    return caveats(observed, window or window_of(observed, 1), shared_prefixes=shared_prefixes)


def test_nothing_is_said_about_a_quiet_window() -> None:
    assert said(QUIET) == []


@pytest.mark.parametrize(
    ("observed", "says"),
    [
        (replace(QUIET, client=Effort(busy=0.3, waited=0.4)), "had to wait for a CPU for 40% of the time"),
        (
            replace(QUIET, after=replace(AFTER, counters={**AFTER.counters, "cached_prompt_tokens": 4.0})),
            "50% of the prompts came from the prefix cache",
        ),
        (
            replace(QUIET, sent=(SENT, SentRequest(started=0.1, ended=0.2, arrivals=(), error="HTTP 500"))),
            "1 of 2 requests failed",
        ),
    ],
)
def test_each_doubt_is_a_sentence_that_names_the_window(observed: Observed, says: str) -> None:
    (sentence,) = said(observed)
    assert sentence.startswith("concurrency 8, window 2: ")
    assert says in sentence


def test_a_window_that_does_not_count_for_its_generator_is_not_warned_of_for_the_same() -> None:
    limited = replace(QUIET, client=Effort(busy=0.5, waited=0.4))
    assert said(limited) == []
    assert window_of(limited, 1).invalid == (
        "the load generator was the limit: its process had work for 90% of the time (40% waiting for a CPU)"
    )


def test_shared_prefixes_of_a_dataset_are_no_doubt() -> None:
    cached = replace(QUIET, after=replace(AFTER, counters={**AFTER.counters, "cached_prompt_tokens": 4.0}))
    assert said(cached, shared_prefixes=True) == []


@pytest.mark.parametrize(("engine_ms", "late"), [(190.0, False), (130.0, False), (100.0, True)])
def test_tokens_that_reach_the_client_late_are_noticed(engine_ms: float, late: bool) -> None:
    window = window_of(QUIET, 1).model_copy(update={"engine_mean_ms": {"ttft": engine_ms}})
    assert bool(said(QUIET, window)) == late
