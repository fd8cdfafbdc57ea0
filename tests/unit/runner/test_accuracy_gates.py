"""Gates: the measured value decides."""

from __future__ import annotations

import pytest

from haqa_contract import AccuracyGate, Estimate, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.accuracy import check_gates

METRICS = {
    "perplexity": Estimate(value=10.0, low=9.0, high=11.1, n=8),
    "accuracy.stdlib_cloze": Estimate(value=0.6, low=0.5, high=0.7, n=100),
}


@pytest.mark.parametrize(
    "gate",
    [
        AccuracyGate(metric="perplexity", max=10.0),
        AccuracyGate(metric="perplexity", min=1, max=10.5),
        AccuracyGate(metric="accuracy.stdlib_cloze", min=0.6),
    ],
)
def test_a_value_on_the_limit_passes_whatever_its_interval(gate: AccuracyGate) -> None:
    check_gates((gate,), METRICS)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        (
            AccuracyGate(metric="perplexity", max=9.5),
            "perplexity is 10 (95 % interval 9 to 11.1), above its limit 9.5",
        ),
        (
            AccuracyGate(metric="accuracy.stdlib_cloze", min=0.65),
            "accuracy.stdlib_cloze is 0.6 (95 % interval 0.5 to 0.7), below its limit 0.65",
        ),
        (
            AccuracyGate(metric="klDivergence", max=0.1),
            "klDivergence has a limit but was not measured (perplexity, accuracy.stdlib_cloze was)",
        ),
    ],
)
def test_a_missed_gate_names_the_value_its_interval_and_the_limit(gate: AccuracyGate, says: str) -> None:
    with pytest.raises(TrialFailure) as caught:
        check_gates((gate,), METRICS)
    assert says in caught.value.message
    assert caught.value.reason is FailureReason.ACCURACY_GATE


def test_without_gates_everything_passes() -> None:
    check_gates((), {})
