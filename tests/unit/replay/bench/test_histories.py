"""What a warm strategy starts from in a benchmark."""

from pathlib import Path

from haqa_operator.replay.bench.histories import TRIALS, TUNINGS, with_history
from haqa_operator.replay.bench.problems import Half
from haqa_operator.replay.bench.reading import problems_of

TABLES = Path(__file__).parents[4] / "benchmarks" / "tables"


def test_a_history_is_of_the_development_half_and_never_of_the_own_family() -> None:
    everything = problems_of([TABLES / "argonne.csv"])
    of_trial = {id(seen.trial): problem for problem in everything for seen in problem.truth.values()}
    for problem in with_history(everything[:6] + everything[-6:], everything):
        assert 5 <= len(problem.history) <= TUNINGS
        for run in problem.history:
            origin = of_trial[id(run[0])]
            assert run[0].is_baseline
            assert 1 < len(run) <= 1 + TRIALS
            assert origin.half is Half.DEVELOPMENT
            assert origin.family != problem.family
            assert origin.source == problem.source


def test_the_same_problem_has_the_same_history() -> None:
    everything = problems_of([TABLES / "qserve.csv"])
    first, second = with_history(everything, everything), with_history(everything[:2], everything)
    assert first[:2] == second
