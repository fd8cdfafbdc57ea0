"""The load generator keeps out of the engine's way, and out of the queue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from haqa_runner.measure.placement import beside_the_engine, seconds_waited, worker_cores


def process(proc: Path, pid: int, name: str, *threads: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes(name.encode() + b"\0")
    for number, allowed in enumerate(threads):
        task = folder / "task" / str(pid + number)
        task.mkdir(parents=True)
        (task / "status").write_text(f"Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n")


@pytest.mark.parametrize(
    ("threads", "bound"),
    [(("0", "0"), {0}), (("0", "1"), {0, 1}), (("0-2,5", "0"), {0, 1, 2, 5}), (("0-7",), set()), ((), set())],
)
def test_cores_are_taken_that_a_worker_is_bound_to(tmp_path: Path, threads: tuple[str, ...], bound: set[int]) -> None:
    process(tmp_path, 10, "VLLM::Worker_TP0", *threads)
    process(tmp_path, 20, "VLLM::EngineCore", "3")
    process(tmp_path, 30, "python", "4")
    assert worker_cores(8, tmp_path) == bound


def test_processes_that_end_while_they_are_looked_at_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()
    process(tmp_path, 11, "VLLM::Worker")
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "cmdline").write_bytes(b"VLLM::Worker\0")
    assert worker_cores(8, tmp_path) == set()


def test_everything_is_put_back_afterwards() -> None:
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)
    with beside_the_engine() as placement:
        assert placement.cores <= before[0]
        assert (os.sched_getscheduler(0) == os.SCHED_RR) == placement.real_time
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == before


def test_all_cores_are_used_where_the_workers_leave_none(tmp_path: Path) -> None:
    own = sorted(os.sched_getaffinity(0))
    process(tmp_path, 10, "VLLM::Worker", *map(str, own))
    with beside_the_engine(tmp_path) as placement:
        assert placement.cores == set(own)
    if len(own) > 1:
        process(tmp_path, 20, "VLLM::Worker", str(own[0]))
        (tmp_path / "10" / "cmdline").write_bytes(b"gone\0")
        with beside_the_engine(tmp_path) as placement:
            assert placement.cores == set(own[1:])
            assert str(placement).endswith(f"cores {','.join(map(str, own[1:]))}")


def test_waiting_is_counted_where_the_kernel_does(tmp_path: Path) -> None:
    assert seconds_waited() >= 0
    assert seconds_waited(tmp_path) == 0
    (tmp_path / "thread-self").mkdir()
    (tmp_path / "thread-self" / "schedstat").write_text("100 2500000000 7\n")
    assert seconds_waited(tmp_path) == 2.5
