"""What keeps a tuning from beginning names what is to be corrected."""

from __future__ import annotations

import pytest
from tests.unit.cluster.observe.pods import failed

from haqa_contract import FailureReason
from haqa_operator.tuning.preflight import model_unread

URI = "pvc://models/llama"


@pytest.mark.parametrize(
    ("reason", "message", "said"),
    [
        (FailureReason.MODEL_FETCH, "no config.json; add it", f"spec.model.uri: {URI}: no config.json; add it"),
        (FailureReason.MODEL_FETCH, "spec.artifacts: access denied", "spec.artifacts: access denied"),
        (FailureReason.UNSCHEDULABLE, "no Secret", "inspecting the model failed: Unschedulable: no Secret"),
    ],
)
def test_the_model_is_blamed_for_what_is_wrong_with_it_alone(reason: FailureReason, message: str, said: str) -> None:
    assert model_unread(URI, failed(reason, message).failure) == said


def test_a_look_at_the_model_that_found_nothing_says_so() -> None:
    assert model_unread(URI, None) == f"spec.model.uri: {URI}: nothing was found out about the model"
