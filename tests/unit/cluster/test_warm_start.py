"""A tuning that runs again begins with what it knew to be good."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.tuning.pool_states import BASELINE, INT8, failed, state, trial

from haqa_contract import Configuration, FailureReason
from haqa_operator.api import Proposer, Trial
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.cluster.warm_start import GUESSES, earlier_answer, earlier_runs
from haqa_operator.search.space import SearchSpace
from haqa_operator.tuning.plan import PoolState, new_trial

INT4 = Configuration.of("W4A16", "rtn")
OLD = (trial(0, BASELINE, 100), trial(1, INT8, 150), trial(2, INT4, 120))


def now(*trials: Trial, space: tuple[Configuration, ...] = (INT8, INT4)) -> PoolState:
    return replace(state(*trials), space=SearchSpace(BASELINE, space))


def test_the_earlier_answer_is_tried_first() -> None:
    guess = earlier_answer([OLD], now(trial(0, BASELINE, 50)))
    assert guess is not None
    assert guess.configuration == INT8
    assert guess.proposer is Proposer.EARLIER_RUN
    assert OLD[1].name in guess.reasoning


def test_it_is_tried_once() -> None:
    known = now(trial(0, BASELINE, 50))
    guess = earlier_answer([OLD], known)
    assert guess is not None
    assert earlier_answer([OLD], replace(known, trials=(*known.trials, new_trial(known, 1, guess)))) is None


def test_what_the_new_space_does_not_have_is_no_guess() -> None:
    assert earlier_answer([OLD], now(trial(0, BASELINE, 50), space=(INT4,))) is None


def test_a_run_without_an_answer_gives_none_and_the_one_before_it_is_asked() -> None:
    nothing = (trial(0, BASELINE, 100), trial(1, INT8, **failed(FailureReason.ENGINE_LOAD_FAILED)))
    guess = earlier_answer([nothing, OLD], now(trial(0, BASELINE, 50)))
    assert guess is not None
    assert guess.configuration == INT8


def test_guesses_never_eat_the_budget() -> None:
    spaces = [Configuration.of("W8A8-INT8", "rtn", max_num_seqs=number) for number in range(1, GUESSES + 3)]
    runs = [(trial(0, BASELINE, 100), trial(1, one, 150)) for one in spaces]
    known = now(trial(0, BASELINE, 50), space=tuple(spaces))
    guesses = 0
    while (guess := earlier_answer(runs, known)) is not None:
        known = replace(known, trials=(*known.trials, new_trial(known, len(known.trials), guess)))
        guesses += 1
    assert guesses == GUESSES


def test_runs_are_told_apart_by_fingerprint_and_pool_newest_first() -> None:
    def resource(one: Trial, pool: str, fingerprint: str, finished: float) -> QuantizationTrial:
        ended = one.model_copy(update={"pool": pool, "status": one.status.model_copy(update={"finished": finished})})
        made = QuantizationTrial.of(ended, "team", fingerprint)
        return made.model_copy(update={"status": ended.status})

    trials = [
        resource(OLD[0], "a", "one", 10),
        resource(OLD[1], "a", "one", 20),
        resource(OLD[0], "a", "two", 30),
        resource(OLD[0], "a", "now", 40),
        resource(OLD[0], "b", "one", 50),
    ]
    runs = earlier_runs(trials, "a", "now")
    assert [len(run) for run in runs] == [1, 2]
