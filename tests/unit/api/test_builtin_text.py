"""HAQA's own text is not what users send, and somebody should know."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders import make_tuning

from haqa_operator.api.builtin_text import builtin_text_warning

OWN = {"dataset": "hf://datasets/org/chats"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "accuracy is judged and quantization is calibrated on HAQA's built-in text"),
        ({"evaluation": OWN}, "quantization is calibrated on HAQA's built-in text"),
        ({"calibration": OWN}, "set evaluation.dataset to text of yours"),
        ({"evaluation": {"dataset": "builtin://python-stdlib/heldout"}, "calibration": OWN}, "accuracy is judged on"),
        ({"evaluation": OWN, "calibration": OWN}, None),
    ],
)
def test_the_sentence_names_what_rests_on_it_and_the_field(fields: dict[str, Any], says: str | None) -> None:
    found = builtin_text_warning(make_tuning().on_pool("here").having(**fields).obj().spec)
    assert found is None if says is None else says in (found or "")
