"""The report on a terminal."""

import io

import pytest
from rich.console import Console, RenderableType
from tests import sample_results

from haqa_operator.decision.results import Exclusion
from haqa_operator.report.html import render_html
from haqa_operator.report.table import summary, trial_details


def printed(renderable: RenderableType, width: int = 120) -> str:
    terminal = io.StringIO()
    console = Console(file=terminal, width=width, force_terminal=False, color_system=None)
    console.print(renderable)
    return terminal.getvalue()


@pytest.mark.parametrize("name", sample_results.SAMPLES)
@pytest.mark.parametrize("width", [80, 160])
def test_every_answer_fits_the_terminal(name: str, width: int) -> None:
    text = printed(summary(sample_results.SAMPLES[name]()), width)
    assert max(map(len, text.splitlines())) <= width


def test_answer_comes_first_then_the_trials() -> None:
    text = printed(summary(sample_results.winner()))
    assert text.index("Serve W8A8-INT8/rtn") < text.index("2.44×") < text.index("Trials of pool this-machine")
    assert "EngineOOM" in text


def test_every_pool_is_there() -> None:
    text = printed(summary(sample_results.two_pools()))
    assert "pool avx512: Winner" in text
    assert "pool avx2: Winner" in text


def test_one_trial_in_full() -> None:
    report = sample_results.winner()
    text = printed(trial_details(report, report.pools[0].trials[4], "results/demo/trials/4"))
    assert "bayesian (the agent proposed candidate 99" in text
    assert "candidate 99 does not exist" in text
    assert "throughput@32" in text
    assert "results/demo/trials/4" in text


def test_what_the_agent_expected_is_shown_with_its_trial() -> None:
    report = sample_results.winner()
    trial = report.pools[0].trials[1]
    expecting = trial.model_copy(update={"proposal": trial.proposal.model_copy(update={"expected_percent": 165.0})})
    trials = tuple(expecting if known is trial else known for known in report.pools[0].trials)
    pool = report.pools[0].model_copy(update={"trials": trials})
    report = report.model_copy(update={"pools": (pool, *report.pools[1:])})
    assert "165 % of the baseline's objective" in printed(trial_details(report, expecting))
    assert "165 % of the baseline&#39;s objective" in render_html(report)


def test_text_from_outside_cannot_steer_the_terminal_or_use_its_markup() -> None:
    report = sample_results.hostile()
    text = printed(summary(report)) + printed(trial_details(report, report.pools[0].trials[1]))
    assert "\x1b" not in text
    assert "[red]not markup[/red]" in text


def _with_lessons(count: int) -> RenderableType:
    report = sample_results.winner()
    lessons = [
        Exclusion(parameters={"scheme": f"S{n}"}, reason="trial 5 ended with EngineOOM", configurations=3, trial=5)
        for n in range(count)
    ]
    known = Exclusion(parameters={"scheme": "FP8-DYNAMIC"}, reason="this CPU has no FP8")
    pool = report.pools[0].model_copy(update={"exclusions": (*lessons, known)})
    return summary(report.model_copy(update={"pools": (pool,)}))


def test_what_trials_have_ruled_out_is_told_and_what_was_known_before_them_is_not() -> None:
    text = printed(_with_lessons(1))
    assert text.index("Trials of pool") < text.index("Ruled out on the way") < text.index("scheme=S0")
    assert "this CPU has no FP8" not in text
    assert "Ruled out" not in printed(_with_lessons(0))


def test_of_many_lessons_the_rest_is_counted() -> None:
    text = printed(_with_lessons(10), width=80)
    assert "scheme=S7" in text
    assert "scheme=S8" not in text
    assert "2 more" in text
    assert max(map(len, text.splitlines())) <= 80
