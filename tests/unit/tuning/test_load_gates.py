"""What a trial has to reach under load, from the trials before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.builders import TrialBuilder, TuningBuilder, make_baseline, make_trial, make_tuning

from haqa_contract import LoadGate
from haqa_operator.api import Trial
from haqa_operator.tuning.load_gates import load_gates

SLOW = make_baseline().throughput(10).metric("ttft", 100).obj()
FAST = make_trial(1).throughput(25).metric("ttft", 80).obj()


def gates(
    tuning: TuningBuilder, earlier: Sequence[Trial], trial: TrialBuilder | None = None, cost: float | None = None
) -> list[dict[str, Any]]:
    found = load_gates(tuning.obj().spec, (trial or make_trial(7)).obj(), earlier, cost)
    return [gate.model_dump(exclude_defaults=True, exclude={"deviation"}) for gate in found]


def test_the_best_so_far_is_to_be_beaten() -> None:
    assert gates(make_tuning(), [SLOW]) == [
        {"metric": "throughput", "min": 10, "because": "the baseline has 10 tokens/s"}
    ]
    assert gates(make_tuning(), [SLOW, FAST]) == [
        {"metric": "throughput", "min": 25, "because": "trial 1 has 25 tokens/s"}
    ]


def test_a_latency_is_to_be_kept_below() -> None:
    tuning = make_tuning().objective("ttft")
    assert gates(tuning, [SLOW, FAST]) == [{"metric": "ttft", "max": 80, "because": "trial 1 has 80 ms"}]


def test_limits_count_too_in_absolute_numbers() -> None:
    tuning = make_tuning().constraint("ttft", maxDegradationPercent=10).constraint("perplexity", max=20)
    found = gates(tuning, [SLOW])
    assert [(gate["metric"], gate.get("min"), gate.get("max")) for gate in found] == [
        ("ttft", None, pytest.approx(110))
    ]
    assert found[0]["because"] == "a configuration has to have ttft at most 110 ms"


def test_only_what_keeps_the_limits_and_was_measured_to_its_end_is_to_be_beaten() -> None:
    tuning = make_tuning().constraint("ttft", max=90)
    breaks = make_trial(2).throughput(90).metric("ttft", 500).obj()
    rough = FAST.model_copy(update={"status": FAST.status.model_copy(update={"ended_early": "slow"})})
    found = gates(tuning, [SLOW, breaks, rough])
    assert [gate["metric"] for gate in found] == ["ttft"]


@pytest.mark.parametrize(
    ("tuning", "trial"),
    [
        pytest.param(make_tuning().search(earlyStopping=False), make_trial(2), id="turned off"),
        pytest.param(make_tuning(), make_baseline(), id="the baseline is what others are compared with"),
        pytest.param(make_tuning().objective("perplexity"), make_trial(2), id="known before the load test"),
        pytest.param(
            make_tuning().having(objective=[{"metric": "throughput"}, {"metric": "ttft"}]),
            make_trial(2),
            id="several objectives have no single best",
        ),
    ],
)
def test_no_gates(tuning: TuningBuilder, trial: TrialBuilder) -> None:
    measured = SLOW.model_copy(
        update={"status": make_baseline().throughput(10).metric("ttft", 9).metric("perplexity", 3).obj().status}
    )
    assert gates(tuning, [measured], trial) == []


def test_nothing_measured_is_nothing_to_beat() -> None:
    assert gates(make_tuning(), []) == []
    assert gates(make_tuning(), [make_baseline().failed("EngineLoadFailed").obj()]) == []


def test_tokens_for_a_unit_of_cost_are_measured_as_tokens() -> None:
    tuning = make_tuning().on_pool("here", costPerHour=2).objective("throughputPerCost")
    measured = make_baseline().throughput(10).metric("throughputPerCost", 18000).obj()
    found = gates(tuning, [measured], cost=2.0)
    assert found == [{"metric": "throughput", "min": 10, "because": "the baseline has 18000 tokens per unit of cost"}]


def deviation(*samples: tuple[float, ...]) -> float:
    trials = [make_baseline().metric("throughput", 10, samples=samples[0]).obj()]
    trials += [make_trial(n).metric("throughput", 10, samples=s).obj() for n, s in enumerate(samples[1:], 1)]
    (gate,) = load_gates(make_tuning().obj().spec, make_trial(9).obj(), trials, None)
    assert isinstance(gate, LoadGate)
    return gate.deviation


def test_the_noise_is_that_of_the_pool_s_own_windows() -> None:
    assert deviation((10, 10, 10)) == 0.03
    assert deviation((8, 10, 12.5)) == pytest.approx(0.223, abs=0.001)
    assert deviation((8, 10, 12.5), (10, 10, 10)) == pytest.approx(0.223 / 2**0.5, abs=0.001)
    assert deviation((10,)) == 0.03
