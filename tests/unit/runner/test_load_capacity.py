"""How many processes the load generator takes, and whether it was the limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract.load_generation import AT_EASE, CORE_TOKENS_PER_S, cores, processes
from haqa_runner.measure.capacity import (
    BUSY_LIMIT,
    CpuClock,
    Effort,
    effort,
    first_processes,
    more_processes,
    usable_cpus,
)


@given(rate=st.floats(0, 1e7))
def test_processes_for_a_rate_are_at_ease_with_it(rate: float) -> None:
    found = processes(rate)
    assert found >= 1
    assert cores(rate) / found <= AT_EASE + 1e-9
    assert found == 1 or cores(rate) / (found - 1) > AT_EASE - 1e-9


@given(rate=st.one_of(st.none(), st.floats(0, 1e7)), streams=st.integers(1, 1024), most=st.integers(1, 256))
def test_no_process_is_without_a_stream_or_a_cpu(rate: float | None, streams: int, most: int) -> None:
    assert 1 <= first_processes(rate, streams, most) <= min(streams, most)


@given(busy=st.floats(0, 1), waited=st.floats(0, 1), before=st.integers(1, 64), most=st.integers(1, 256))
def test_more_processes_are_more_or_none(busy: float, waited: float, before: int, most: int) -> None:
    found = more_processes(Effort(busy, waited, before), 512, most)
    assert found is None or before < found <= min(512, most)
    assert (found is None) == (before >= min(512, most))


@pytest.mark.parametrize(
    ("seen", "processes"),
    [
        (Effort(1.0, 0.0, 1), 2),
        (Effort(1.0, 0.9, 1), 4),
        (Effort(0.9, 0.0, 5), 10),
        (Effort(1.0, 0.0, 12), 16),
        (Effort(1.0, 0.0, 16), None),
    ],
)
def test_processes_are_doubled_at_least_as_far_as_there_are_cpus(seen: Effort, processes: int | None) -> None:
    assert more_processes(seen, streams=512, most=16) == processes


@pytest.mark.parametrize(
    ("seen", "limited"),
    [
        (Effort(BUSY_LIMIT, 0.0), False),
        (Effort(BUSY_LIMIT + 0.01, 0.0), True),
        (Effort(0.05, 0.6), False),
        (Effort(0.05, 0.9), True),
    ],
)
def test_working_and_waiting_for_a_cpu_are_both_having_something_to_do(seen: Effort, limited: bool) -> None:
    assert (seen.objection is not None) == limited


def test_the_busiest_process_counts_and_each_by_its_own_clock() -> None:
    before = (CpuClock(10.0, 1.0, 0.0), CpuClock(9.8, 4.0, 0.0))
    after = (CpuClock(20.0, 2.0, 0.0), CpuClock(19.8, 12.0, 1.0))
    found = effort(before, after, processes=1)
    assert (found.busy, found.waited) == pytest.approx((0.8, 0.1))
    assert effort((), (), 1) == Effort()


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "800000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_container_s_limit_bounds_the_cpus(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    bound = len(os.sched_getaffinity(0))
    assert usable_cpus(tmp_path) == (bound if limit is None else min(bound, limit))


def test_the_constant_is_what_a_core_is_taken_to_do() -> None:
    assert cores(3 * CORE_TOKENS_PER_S) == 3
