"""A bound that a search may end on: never below what can be, and none where it would not hold."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.optional import present
from tests.unit.search.builders import LLAMA_SMALL, case, cpu, model, nvidia

from haqa_contract import Algorithm, Configuration, Scheme, Workload
from haqa_operator.api.goals import Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.bounds import best_possible
from haqa_operator.search.build import build_space
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.prior import estimate
from haqa_operator.search.space import SearchSpace

ONE = Workload(input_tokens=512, output_tokens=256, concurrency=(1,))
H100 = nvidia("NVIDIA-H100-80GB-HBM3")


def possible_bound(
    objective: Objective | str = "throughput",
    scheme: str = "BF16",
    workload: Workload = ONE,
    accelerator: Accelerator = H100,
    profile: ModelProfile | None = None,
    **engine: Any,
) -> float | None:
    chosen = objective if isinstance(objective, Objective) else Objective(metric=objective)
    return best_possible(chosen, case(accelerator, scheme, profile=profile or model(), workload=workload, **engine))


def bound(objective: Objective | str = "throughput", **case_: Any) -> float:
    return present(possible_bound(objective, **case_))


@pytest.mark.parametrize(
    ("gpu", "scheme", "latency_s"),
    [
        ("NVIDIA-RTX-A6000", "BF16", 23.6),
        ("NVIDIA-RTX-A6000", "W8A8-INT8", 15.2),
        ("NVIDIA-RTX-A6000", "W4A16", 9.1),
        ("NVIDIA-A100-SXM4-80GB", "BF16", 12.1),
        ("NVIDIA-A100-SXM4-80GB", "W4A16", 6.4),
        ("NVIDIA-H100-80GB-HBM3", "BF16", 7.6),
        ("NVIDIA-H100-80GB-HBM3", "FP8-DYNAMIC", 5.7),
        ("NVIDIA-H100-80GB-HBM3", "W4A16", 5.6),
    ],
)
def test_measured_throughput_stays_below_the_bound(gpu: str, scheme: str, latency_s: float) -> None:
    """Red Hat's model cards of R1-Distill-Llama-8B: latency of 1024 output tokens after 256, vLLM 0.7.2."""
    workload = Workload(input_tokens=256, output_tokens=1024, concurrency=(1,))
    assert 1024 / latency_s < bound(scheme=scheme, accelerator=nvidia(gpu), workload=workload)


def test_weights_are_read_once_a_step() -> None:
    # 7.5e9 parameters of Linear layers and output, 2 bytes, at 3350 GB/s, and the prompt's KV cache.
    assert bound() == pytest.approx(3350e9 / (2 * 7.505e9 + 512 * 131072), rel=0.001)


def test_levels_weigh_alike() -> None:
    levels = Workload(input_tokens=512, output_tokens=256, concurrency=(1, 16))
    one, sixteen = bound(Objective(concurrency=1), workload=levels), bound(Objective(concurrency=16), workload=levels)
    assert bound(workload=levels) == pytest.approx((one * sixteen) ** 0.5)


def test_rates_that_count_something_else_scale() -> None:
    assert bound("requestRate") == pytest.approx(bound() / 256)
    assert bound("totalThroughput") == pytest.approx(bound() * 3)


def test_latency_is_bounded_from_below() -> None:
    assert bound("itl") == pytest.approx(-1000 / bound(), rel=0.01)
    assert bound("e2e") == pytest.approx(255 * bound("itl"))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"accelerator": cpu()},
        {"accelerator": nvidia("Quadro-P2000")},
        {"profile": model(LLAMA_SMALL)},
        {"objective": "ttft"},
        {"objective": "throughputPerCost"},
        {"speculative_config": '{"method": "ngram"}'},
    ],
    ids=["cpu", "unknown device", "weights in the cache", "prompt only", "cost", "several tokens a step"],
)
def test_no_bound_where_it_would_not_hold(kwargs: dict[str, Any]) -> None:
    assert possible_bound(**kwargs) is None


def test_shared_beginnings_of_a_data_set_are_not_counted() -> None:
    shared = Workload(input_tokens=4096, output_tokens=256, concurrency=(64,), dataset="file:///prompts.jsonl")
    alone = shared.model_copy(update={"dataset": None})
    assert bound(workload=shared) > bound(workload=alone)


FOUR, EIGHT = Configuration.of("W4A16", "gptq"), Configuration.of("FP8-DYNAMIC", "rtn")


def test_best_left_is_the_best_of_what_is_untried() -> None:
    space = SearchSpace(Configuration(), (FOUR, EIGHT), bounds={FOUR: 200.0, EIGHT: 100.0})
    assert space.best_left(()) == 200
    assert space.best_left((FOUR,)) == 100
    assert space.best_left((FOUR, EIGHT)) is None


def test_one_candidate_without_a_bound_leaves_none() -> None:
    assert SearchSpace(Configuration(), (FOUR, EIGHT), bounds={FOUR: 200.0}).best_left(()) is None


def test_space_bounds_its_candidates_where_the_hardware_is_known() -> None:
    search = Search(schemes=(Scheme.W4A16, Scheme.FP8_DYNAMIC), algorithms=(Algorithm.RTN,))
    space = build_space(search, H100, model(), ONE, "0.32.0", objective=Objective())
    assert space.candidates
    assert {c: space.bounds[c] for c in space.candidates} == {
        c: best_possible(Objective(), replace(case(H100, profile=model(), workload=ONE), configuration=c))
        for c in space.candidates
    }


@given(level=st.integers(1, 512), scheme=st.sampled_from(["BF16", "FP8-DYNAMIC", "W4A16"]))
def test_bound_grows_with_concurrency_and_is_above_the_guess(level: int, scheme: str) -> None:
    workload = Workload(input_tokens=512, output_tokens=256, concurrency=(level,))
    more = workload.model_copy(update={"concurrency": (level + 1,)})
    own = bound(scheme=scheme, workload=workload)
    assert own <= bound(scheme=scheme, workload=more) * (1 + 1e-9)
    assert own > estimate(case(H100, scheme, profile=model(), workload=workload))
