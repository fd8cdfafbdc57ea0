"""Task accuracy: which of lm-eval's figures counts, and the task that needs no download."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from haqa_contract import Evaluation
from haqa_contract.failures import TrialFailure
from haqa_runner.datasets import load_texts
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.task_definitions.stdlib_cloze import CHOICES, CONTEXT_LINES, cloze_documents
from haqa_runner.measure.tasks import accuracy_of, measure_tasks


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (
            {
                "alias": "a",
                "acc,none": 0.25,
                "acc_stderr,none": 0.05,
                "acc_norm,none": 0.5,
                "acc_norm_stderr,none": 0.1,
            },
            0.5,
        ),
        ({"alias": "a", "acc,none": 0.25, "acc_stderr,none": 0.05}, 0.25),
        ({"exact_match,strict-match": 0.4, "exact_match_stderr,strict-match": 0.02}, 0.4),
        ({"alias": "a", "rouge,none": 0.7, "rouge_stderr,none": "N/A", "sample_len": 100}, 0.7),
    ],
)
def test_normalized_accuracy_counts_before_plain_and_plain_before_others(result: dict[str, Any], value: float) -> None:
    assert accuracy_of("task", result, {"original": 100, "effective": 100}).value == value


def test_the_interval_comes_from_lm_eval_s_standard_error() -> None:
    found = accuracy_of("task", {"acc,none": 0.5, "acc_stderr,none": 0.1}, {"effective": 21})
    assert (found.low, found.high) == pytest.approx((0.5 - 0.2086, 0.7086), abs=1e-4)
    assert found.n == 21


def test_a_share_has_no_interval_outside_nothing_and_everything() -> None:
    found = accuracy_of("task", {"acc,none": 0.05, "acc_stderr,none": 0.05}, {"effective": 10})
    assert found.low == 0.0
    assert accuracy_of("task", {"acc,none": 0.98, "acc_stderr,none": 0.05}, {"effective": 10}).high == 1.0


def test_a_task_without_figures_is_a_sentence() -> None:
    with pytest.raises(TrialFailure, match="the task odd reports no number"):
        accuracy_of("odd", {"alias": "odd"}, {})


def test_a_task_folder_that_does_not_exist_is_a_sentence(tmp_path: Path) -> None:
    evaluation = Evaluation(tasks=("x",), task_path=str(tmp_path / "none"))
    with pytest.raises(TrialFailure, match="is no folder"):
        measure_tasks(Endpoint("http://127.0.0.1:9", "m"), evaluation, tmp_path)


@cache
def texts() -> list[str]:
    return load_texts("builtin://python-stdlib/heldout", limit=6)


def documents(seed: int = 0) -> list[dict[str, Any]]:
    return cloze_documents(texts(), seed)


def test_cloze_documents_have_one_right_line_among_three_of_other_files() -> None:
    made = documents()
    assert len(made) > 50
    for document in made:
        (source,) = [text for text in texts() if document["context"] in text][:1]
        right = document["choices"][document["answer"]]
        assert document["context"] + right in source
        assert len(set(document["choices"])) == CHOICES
        assert not any(f"\n{wrong}\n" in source for wrong in set(document["choices"]) - {right})
        assert document["context"].count("\n") == CONTEXT_LINES


def test_the_right_line_is_anywhere_among_the_four() -> None:
    places = [document["answer"] for document in documents()]
    assert all(0.15 < places.count(place) / len(places) < 0.35 for place in range(CHOICES))


def test_cloze_documents_are_the_same_for_the_same_seed() -> None:
    assert documents(1) == documents(1) != documents(2)
