"""The report says how long a request the winner takes, where the trial says it."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from tests import sample_results

from haqa_operator.report.answer import build_answer
from haqa_operator.report.model import TuningReport
from haqa_operator.report.table import trial_details

SENTENCE = "It serves requests of up to 131,072 tokens, prompt and answer together."


def taking(report: TuningReport, length: int | None) -> TuningReport:
    """The report with engines that took requests of this length."""
    pool = report.pools[0]
    trials = tuple(
        trial.model_copy(update={"status": trial.status.model_copy(update={"max_model_len": length})})
        for trial in pool.trials
    )
    return report.model_copy(update={"pools": (pool.model_copy(update={"trials": trials}), *report.pools[1:])})


@pytest.mark.parametrize("sample", [sample_results.winner, sample_results.baseline_best])
def test_the_answer_says_how_long_a_request_may_be(sample: Callable[[], TuningReport]) -> None:
    report = taking(sample(), 131072)
    assert SENTENCE in build_answer(report, report.pools[0]).sentences


def test_nothing_is_said_where_nothing_is_known() -> None:
    report = taking(sample_results.winner(), None)
    assert not [text for text in build_answer(report, report.pools[0]).sentences if "requests of up to" in text]


def test_one_trial_says_what_its_engine_took() -> None:
    report = taking(sample_results.winner(), 4096)
    terminal = io.StringIO()
    Console(file=terminal, width=120).print(trial_details(report, report.pools[0].trials[0]))
    assert "4,096 tokens, prompt and answer together" in terminal.getvalue()
