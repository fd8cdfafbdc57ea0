from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.replay.bench.tables import NOTES, ROWS, small_problem, write

from haqa_contract import Configuration
from haqa_operator.replay.bench.problems import Half, Problem
from haqa_operator.replay.bench.reading import problems_of
from haqa_operator.replay.tables.cells import TableError

PUBLISHED = Path(__file__).parents[4] / "benchmarks" / "tables"


@pytest.fixture(scope="module")
def published() -> list[Problem]:
    return problems_of([PUBLISHED / f"{name}.csv" for name in ("argonne", "qserve", "redhat", "torchao")])


def test_a_problem_is_what_its_table_says(tmp_path: Path) -> None:
    problem = small_problem(tmp_path)
    assert problem.name == "small"
    assert problem.constraints[0].describe() == "e2e <= 2000"
    assert problem.best is not None
    assert problem.best.trial.configuration == Configuration.of(engine="vllm", gpus=2, batch=32)
    assert problem.space.load_parameters == {"batch"}


def test_what_was_reached_is_a_share_of_the_best_that_keeps_the_limits(tmp_path: Path) -> None:
    problem = small_problem(tmp_path)
    assert problem.reached(Configuration.of(engine="vllm", gpus=1, batch=16)) == pytest.approx(240 / 250)
    assert problem.reached(Configuration.of(engine="vllm", gpus=1, batch=32)) == 0, "breaks the limit"
    assert problem.reached(Configuration.of(engine="vllm", gpus=2, batch=64)) == 0, "failed"


@pytest.mark.parametrize(("score", "regret"), [(250.0, 0.0), (80.0, 1.0), (165.0, 0.5), (None, 1.0)])
def test_regret_is_on_the_scale_of_the_feasible_values(tmp_path: Path, score: float | None, regret: float) -> None:
    assert small_problem(tmp_path).regret(score) == pytest.approx(regret)


def test_columns_cut_a_table_into_problems(tmp_path: Path) -> None:
    notes = NOTES.replace("engine: llama.cpp", "engine: vllm") + "# problems: model\n"
    rows = [line.split(",", 1)[1] for line in ROWS.splitlines() if line.startswith("vllm")]
    text = "".join(f"{model},vllm,{row}\n" for model in ("a", "b") for row in rows)
    made = problems_of([write(tmp_path, notes + "model,engine,gpus,batch,Throughput,Latency\n" + text)])
    assert [problem.name for problem in made] == ["small/a", "small/b"]
    assert made[0].table.context == {"model": "a", "engine": "vllm"}


def test_a_limit_may_be_what_a_share_of_the_configurations_keeps(tmp_path: Path) -> None:
    text = (NOTES + ROWS).replace("{metric: e2e, max: 2000}", "{metric: e2e, keptBy: 0.5}")
    (problem,) = problems_of([write(tmp_path, text)])
    kept = [seen for seen in problem.truth.values() if seen.score is not None and not seen.violation]
    assert (len(kept), problem.constraints[0].max) == (4, 1500)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# objective: {metric: throughput}\n", "", "write what is to be optimized above its header"),
        ("max: 2000", "max: 1", "no configuration of it keeps the limits"),
        ("metric: e2e, max", "metric: ttft, max", "has no such metric"),
        ("# load", "# problems: model\n# load", "# problems: 'model': the table has no such column"),
    ],
)
def test_a_table_that_makes_no_problem_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(TableError) as caught:
        problems_of([write(tmp_path, (NOTES + ROWS).replace(old, new))])
    assert said in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no CSV file in this folder"):
        problems_of([tmp_path])


def test_the_published_selection_is_fixed(published: list[Problem]) -> None:
    """Another number of problems, or other halves, would make figures of different days incomparable."""
    counts = {
        (source, half): sum(problem.source == source and problem.half is half for problem in published)
        for source in ("argonne", "qserve", "redhat", "torchao")
        for half in Half
    }
    assert counts == {
        ("argonne", Half.DEVELOPMENT): 54,
        ("argonne", Half.HELD_OUT): 41,
        ("qserve", Half.DEVELOPMENT): 9,
        ("qserve", Half.HELD_OUT): 7,
        ("redhat", Half.DEVELOPMENT): 9,
        ("redhat", Half.HELD_OUT): 7,
        ("torchao", Half.DEVELOPMENT): 1,
        ("torchao", Half.HELD_OUT): 1,
    }


def test_no_family_is_in_both_halves(published: list[Problem]) -> None:
    halves: dict[str, set[Half]] = {}
    for problem in published:
        halves.setdefault(problem.family, set()).add(problem.half)
    assert all(len(found) == 1 for found in halves.values())


def test_argonnes_limits_exclude_two_thirds(published: list[Problem]) -> None:
    for problem in published:
        if problem.source == "argonne":
            kept = sum(seen.score is not None and not seen.violation for seen in problem.truth.values())
            assert 0.3 <= kept / len(problem.table.rows) <= 0.45, problem.name
            assert 20 <= len(problem.table.rows) <= 90


@pytest.mark.parametrize("name", ["argonne", "qserve", "redhat", "torchao"])
def test_every_published_table_names_its_source_and_licence(name: str) -> None:
    (problem, *_) = problems_of([PUBLISHED / f"{name}.csv"])
    assert problem.table.notes.source
    assert problem.table.notes.licence in ("BSD-3-Clause", "Apache-2.0", "MIT")
