from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.replay.bench.tables import small_problem

from haqa_operator.api.trial import Proposal
from haqa_operator.replay.bench import rivals
from haqa_operator.replay.bench.figures import page
from haqa_operator.replay.bench.measures import summarize
from haqa_operator.replay.bench.outcomes import Outcome, Store, Task, digest
from haqa_operator.replay.bench.problems import Half
from haqa_operator.replay.bench.reading import problems_of
from haqa_operator.replay.bench.searching import Plan, search
from haqa_operator.replay.bench.writing import LEGEND, markdown


def plan(folder: Path, *strategies: str, seeds: int = 2, noise: float = 0.0) -> Plan:
    return Plan([small_problem(folder)], strategies or ("random", "grid"), seeds, trials=4, noise_percent=noise)


def searched(wanted: Plan, path: Path) -> tuple[list[Outcome], int]:
    """The outcomes, and how many searches were made for them."""
    made: list[Outcome] = []
    found = search(wanted, Store(path), 1, lambda done, total, outcome: made.append(outcome))
    return found, len(made)


def outcome(strategy: str, shares: list[float], *, seed: int = 0, family: str = "f", **more: object) -> Outcome:
    task = Task(problem=family, strategy=strategy, seed=seed, trials=4, table="t")
    fields = {"shares": shares, "regrets": [1 - share for share in shares], "hours": [1.0] * len(shares), **more}
    return Outcome.model_validate({"task": task, "half": Half.HELD_OUT, "family": family, "source": "s", **fields})


def test_what_draws_no_lots_is_run_once(tmp_path: Path) -> None:
    tasks = [(task.strategy, task.seed) for task, _ in plan(tmp_path, "random", "grid", "expert").tasks()]
    assert tasks == [("random", 0), ("grid", 0), ("expert", 0), ("random", 1)]
    noisy = [(task.strategy, task.seed) for task, _ in plan(tmp_path, "grid", noise=3).tasks()]
    assert noisy == [("grid", 0), ("grid", 1)]


@pytest.mark.parametrize("suffix", ["-untaught", "-warm", "-full", "-unprimed", "-single"])
def test_an_ablation_is_a_search_of_its_own(suffix: str, tmp_path: Path) -> None:
    found, made = searched(plan(tmp_path, "bayesian", f"bayesian{suffix}"), tmp_path / "runs.jsonl")
    assert (made, [o.error for o in found]) == (2, [None, None])
    assert all(len(o.shares) == 5 for o in found)
    assert rivals.plain(f"bayesian{suffix}") == "bayesian"


def test_without_limits_what_breaks_them_is_only_bad(tmp_path: Path) -> None:
    problem = small_problem(tmp_path)
    single = rivals.make("bayesian-single", problem, 0)
    primed, bare = rivals.make("bayesian", problem, 0), rivals.make("bayesian-unprimed", problem, 0)
    seen = [problem.truth[problem.baseline], *list(problem.truth.values())[1:3]]
    proposals = [strategy.propose(problem.space, seen) for strategy in (single, primed, bare)]
    assert all(isinstance(proposal, Proposal) for proposal in proposals)
    assert len({p.feasible_chance for p in proposals if isinstance(p, Proposal)}) > 1


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "out" / "runs.jsonl"
    first, made = searched(plan(tmp_path), path)
    assert made == 3
    again, made = searched(plan(tmp_path), path)
    assert (again, made) == (first, 0)
    _, made = searched(plan(tmp_path, "random", "grid", "tpe"), path)
    assert made == 2


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    first, _ = searched(plan(tmp_path), path)
    path.write_text(path.read_text()[:-40])
    again, made = searched(plan(tmp_path), path)
    assert made == 1
    assert [o.shares for o in again] == [o.shares for o in first]
    assert searched(plan(tmp_path), path)[1] == 0


def test_another_table_is_another_task(tmp_path: Path) -> None:
    before = digest(small_problem(tmp_path))
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "small.csv"
    path.write_text((tmp_path / "small.csv").read_text().replace("300,2600", "301,2600"))
    (other,) = problems_of([path])
    assert digest(other) != before


def test_processes_find_the_same_as_one(tmp_path: Path) -> None:
    alone = search(plan(tmp_path), Store(tmp_path / "a.jsonl"), 1, lambda *_: None)
    beside = search(plan(tmp_path), Store(tmp_path / "b.jsonl"), 2, lambda *_: None)
    assert [(o.task, o.shares) for o in alone] == [(o.task, o.shares) for o in beside]


def test_a_strategy_that_fails_does_not_take_the_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = rivals.make

    def broken(name: str, *more: object) -> object:
        if name == "grid":
            raise ArithmeticError("singular")
        return make(name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(rivals, "make", broken)
    path = tmp_path / "runs.jsonl"
    found, _ = searched(plan(tmp_path, seeds=1), path)
    assert [o.error for o in found] == [None, "ArithmeticError: singular"]
    monkeypatch.undo()
    again, made = searched(plan(tmp_path, seeds=1), path)
    assert (made, [o.error for o in again]) == (1, [None, None]), "a failure is tried again"


def test_noise_is_tried_where_nothing_can_win_as_well(tmp_path: Path) -> None:
    found, _ = searched(plan(tmp_path, "random", noise=3), tmp_path / "runs.jsonl")
    assert all(o.false_win is not None and o.wrong_winner is not None for o in found)


def test_the_figures_are_means_over_the_searches() -> None:
    outcomes = [
        outcome("a", [0, 0.5, 0.96, 1.0, 1.0], family="f", failed=1, infeasible=1),
        outcome("a", [0, 0, 0, 0.5, 0.5], family="g", failed=0, infeasible=2),
        outcome("b", [0, 1.0], family="f"),
    ]
    a, b = summarize(outcomes, 4)
    assert (a.strategy, a.searches, a.problems) == ("a", 2, 2)
    assert a.share[3].value == pytest.approx(0.75)
    assert a.regret[3].value == pytest.approx(0.25)
    assert a.trials_to["within 5 %"].value == pytest.approx((2 + 5) / 2), "never counts as one more than allowed"
    assert a.never["within 5 %"] == 0.5
    assert a.wasted.value == pytest.approx(0.5)
    assert a.share[3].low <= 0.5 < 1.0 <= a.share[3].high
    assert b.share[3].value == 1.0, "a search that ended stays where it is"
    assert b.own_trials == 1


def test_families_and_not_problems_are_the_evidence() -> None:
    """Ten problems that resemble each other say no more than one."""
    alike = [outcome("a", [0, 1.0], family="f", seed=i) for i in range(10)]
    alike += [outcome("a", [0, 0.0], family="g", seed=i) for i in range(10)]
    apart = [outcome("a", [0, float(i < 10)], family=str(i), seed=i) for i in range(20)]
    widths = [s.share[3].high - s.share[3].low for s in (summarize(alike, 4)[0], summarize(apart, 4)[0])]
    assert widths[0] > 1.5 * widths[1]


def test_errors_are_counted_and_nothing_else_of_them() -> None:
    (summary,) = summarize([outcome("a", [0, 1.0]), outcome("a", [], seed=1, error="x", hours=[])], 4)
    assert (summary.errors, summary.searches, summary.share[3].value) == (1, 1, 1.0)


def test_reports_hold_every_strategy() -> None:
    groups = {"All": summarize([outcome("a", [0, 1.0]), outcome("<b>", [0, 0.5])], 4)}
    text = markdown(groups, LEGEND)
    assert "| a | 1.000 (1.00-1.00) |" in text
    html = page(groups, LEGEND)
    assert "\\u003cb>" in html
    assert "https://cdn" not in html.split("<script>")[0]


@pytest.mark.parametrize(
    ("name", "agent", "said"),
    [
        ("annealing", None, "no such strategy; there are haqa, agent, bayesian"),
        ("agent", None, "needs --agent: scripted:right|wrong|silent|adversarial|stopping"),
        ("haqa", "scripted:evil", "no such script"),
    ],
)
def test_a_strategy_that_cannot_be_made_is_named(name: str, agent: str | None, said: str) -> None:
    with pytest.raises(rivals.RivalError) as caught:
        rivals.check(name, agent)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", list(rivals.EXTRA))
def test_a_rival_that_is_not_installed_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "find_spec", lambda package: None)
    with pytest.raises(rivals.RivalError, match=r"pip install 'haqa\[operator,bench\]'"):
        rivals.check(name, None)


@pytest.mark.parametrize("name", list(rivals.EXTRA))
def test_a_rival_of_the_extra_proposes_what_is_open(name: str, tmp_path: Path) -> None:
    for package in {"optuna-gp": ["torch"], "botorch": ["botorch"], "smac": ["smac"]}[name]:
        pytest.importorskip(package)
    found, _ = searched(Plan([small_problem(tmp_path)], (name,), 1, trials=8), tmp_path / "runs.jsonl")
    assert [o.error for o in found] == [None]
    assert len(found[0].shares) == 9
