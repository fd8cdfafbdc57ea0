"""How fast an engine may be, and what that asks of the container that measures it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_baseline, make_trial
from tests.unit.search.builders import case, cpu, gpu_of, model, nvidia

from haqa_contract import Workload
from haqa_contract.load_generation import cores
from haqa_operator.cluster.build.measure_resources import measure_resources
from haqa_operator.serving.pod import Resources
from haqa_operator.tuning.expected_rate import expected_tokens_per_s

CHAT = Workload(input_tokens=512, output_tokens=256, concurrency=(1, 8, 64, 256))
H100 = replace(nvidia("NVIDIA-H100-80GB-HBM3"), host_cores=16.0, host_memory_gib=128.0)


def test_a_known_device_is_expected_to_do_what_its_data_sheet_allows() -> None:
    found = expected_tokens_per_s(case(H100, profile=model(), workload=CHAT), ())
    assert found == pytest.approx(15_000, rel=0.5)
    faster = expected_tokens_per_s(case(H100, "FP8-DYNAMIC", profile=model(), workload=CHAT), ())
    assert faster is not None
    assert faster > 1.2 * (found or 0)


def test_an_unknown_device_may_be_twice_as_fast_as_the_fastest_so_far() -> None:
    unknown = case(gpu_of(9, 0), workload=CHAT)
    assert expected_tokens_per_s(unknown, ()) is None
    trials = [
        make_baseline().metric("throughput@256", 4000.0).obj(),
        make_trial(1).metric("throughput@64", 6000.0).obj(),
        make_trial(2).failed("EngineOOM").obj(),
    ]
    assert expected_tokens_per_s(unknown, trials) == 12_000


def test_nothing_is_expected_of_a_cpu() -> None:
    assert expected_tokens_per_s(case(cpu()), (make_baseline().metric("throughput@8", 50.0).obj(),)) is None


def test_a_cpu_s_measuring_container_asks_for_as_little_as_ever() -> None:
    assert measure_resources(cpu(), None) == Resources(cpu="250m", memory="1Gi")


@pytest.mark.parametrize(
    ("rate", "host_cores", "count", "expected"),
    [
        (None, 16.0, 1, "1000m"),
        (900.0, 16.0, 1, "250m"),
        (30_000.0, 16.0, 1, "3000m"),
        (31_000.0, 16.0, 1, "3250m"),
        # 0.9 of 16 cores are 14.4, of which the engine has 2.
        (500_000.0, 16.0, 1, "12250m"),
        (500_000.0, 16.0, 4, "49500m"),
        # A share of 2 cores: the engine takes three quarters of it.
        (500_000.0, 2.0, 1, "250m"),
        (500_000.0, None, 1, "1500m"),
    ],
)
def test_measuring_asks_for_the_cores_of_the_rate_that_the_nodes_have(
    rate: float | None, host_cores: float | None, count: int, expected: str
) -> None:
    assert measure_resources(replace(H100, host_cores=host_cores, count=count), rate).cpu == expected


@given(rate=st.floats(0, 1e6), host_cores=st.floats(0.5, 256), count=st.integers(1, 8))
def test_measuring_never_asks_for_more_than_rate_and_nodes_give(rate: float, host_cores: float, count: int) -> None:
    found = int(measure_resources(replace(H100, host_cores=host_cores, count=count), rate).cpu.removesuffix("m"))
    assert found >= 250
    assert found <= max(250, 1000 * cores(rate) + 250)
    assert found <= max(250, 900 * host_cores * count)


def test_processes_take_memory() -> None:
    assert measure_resources(H100, 20_000.0).memory == "1408Mi"
