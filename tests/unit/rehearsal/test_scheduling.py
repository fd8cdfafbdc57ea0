"""Continuous batching in computed time: nothing is lost, and no cache is overfull."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.rehearsal.kernels import Step
from tests.cluster.rehearsal.scheduling import ClosedLoop, Limits, Simulation

PROMPT, WANTED = 100, 20


def seconds(step: Step) -> float:
    return 0.01 + 0.0001 * step.rows


def played(limits: list[Limits], streams: int, answered: int) -> tuple[Simulation, ClosedLoop]:
    simulation = Simulation(limits, seconds, now=1000.0)
    loop = ClosedLoop(simulation, streams, PROMPT, WANTED)
    loop.start()
    return simulation, loop


@given(
    groups=st.integers(1, 4),
    batched=st.integers(32, 512),
    sequences=st.integers(1, 16),
    cache=st.integers(PROMPT + WANTED + 1, 2000),
    streams=st.integers(1, 24),
)
def test_every_request_gets_its_tokens_in_order(
    groups: int, batched: int, sequences: int, cache: int, streams: int
) -> None:
    simulation, loop = played([Limits(batched, sequences, cache)] * groups, streams, 30)
    ended = loop.until(30)
    assert len(ended) == loop.answered >= 30
    for request in ended:
        assert len(request.arrivals) == WANTED
        assert request.arrivals == sorted(request.arrivals)
        assert request.started < request.arrivals[0]
    left = simulation.cancel_all()
    assert len(left) == streams
    made = sum(len(request.arrivals) for request in (*ended, *left))
    assert made == simulation.generated
    assert simulation.finished == len(ended)


@given(cache=st.integers(PROMPT + WANTED + 1, 1500), streams=st.integers(1, 24))
def test_the_cache_is_never_overfull(cache: int, streams: int) -> None:
    simulation, loop = played([Limits(256, 64, cache)], streams, 10)
    for answered in range(1, 11):
        loop.until(answered)
        assert simulation.cache_usage <= 1


def test_a_cache_too_small_for_all_puts_some_back() -> None:
    roomy, loop = played([Limits(2048, 64, 10_000)], 16, 64)
    loop.until(64)
    tight, other = played([Limits(2048, 64, 700)], 16, 64)
    other.until(64)
    assert roomy.preempted == 0
    assert tight.preempted > 0
    assert tight.now > roomy.now


def test_groups_share_the_streams() -> None:
    one, loop = played([Limits(2048, 64, 10_000)], 16, 64)
    loop.until(64)
    two, other = played([Limits(2048, 64, 10_000)] * 2, 16, 64)
    other.until(64)
    assert two.generated / (two.now - 1000) > 1.05 * one.generated / (one.now - 1000)


def test_a_step_has_no_more_tokens_than_it_may() -> None:
    rows: list[int] = []

    def noted(step: Step) -> float:
        rows.append(step.rows)
        return seconds(step)

    simulation = Simulation([Limits(128, 64, 10_000)], noted, now=0.0)
    loop = ClosedLoop(simulation, 8, PROMPT, WANTED)
    loop.start()
    loop.until(16)
    assert max(rows) == pytest.approx(128)
