"""The design that comes first, and what TPE makes of the observations after it."""

import random
from collections.abc import Callable
from itertools import product
from statistics import mean

import optuna
import pytest
from tests.proposals import proposal_of
from tests.unit.search.builders import observed, space_of

from haqa_contract import Configuration, Scalar
from haqa_operator.decision.observations import Observation
from haqa_operator.search.random_search import RandomSearch
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Strategy
from haqa_operator.search.tpe import MAX_DESIGN, TreeParzen

SCHEMES = ("W8A8-INT8", "W4A16", "FP8-DYNAMIC", "W4A16-ASYM")
SEQUENCES = (1, 4, 16, 64, 256)
CACHES = ("auto", "fp8")

Answer = Callable[[Configuration], tuple[float | None, float]]
"""Score and violation of a configuration."""


def grid_space(schemes: tuple[str, ...] = SCHEMES) -> SearchSpace:
    return space_of(
        *(
            Configuration.of(scheme, "rtn", max_num_seqs=n, kv_cache_dtype=cache)
            for scheme, n, cache in product(schemes, SEQUENCES, CACHES)
        )
    )


def search(strategy: Strategy, space: SearchSpace, answer: Answer, steps: int) -> list[Observation]:
    """`answer` maps a configuration to (score, violation)."""
    observations: list[Observation] = []
    for number in range(1, steps + 1):
        configuration = proposal_of(strategy.propose(space, observations)).configuration
        observations.append(observed(number, configuration, *answer(configuration)))
    return observations


def test_first_proposals_see_each_scheme_once_in_the_priors_order() -> None:
    observations = search(TreeParzen(0), grid_space(), lambda c: (1.0, 0.0), 4)
    assert [o.trial.configuration.scheme.value for o in observations] == list(SCHEMES)


def test_first_look_is_at_the_middle_of_the_settings() -> None:
    first = proposal_of(TreeParzen(0).propose(grid_space(), []))
    assert first.configuration.settings["max-num-seqs"] == 16
    assert first.reasoning == "First look: the middle of the settings of W8A8-INT8, which has not been tried yet."


def test_schemes_are_compared_at_the_same_settings() -> None:
    observations = search(TreeParzen(0), grid_space(), lambda c: (1.0, 0.0), 4)
    assert len({o.trial.configuration.engine for o in observations}) == 1


def test_design_ends_even_with_many_schemes() -> None:
    many = space_of(*(Configuration.of(engine_scheme, "rtn", x=n) for engine_scheme in SCHEMES for n in range(9)))
    wide = space_of(*(Configuration(engine=(("scheme", f"S{n}"), ("x", m))) for n in range(12) for m in range(4)))
    for space, design in ((many, 4), (wide, MAX_DESIGN)):
        observations = search(TreeParzen(0), space, lambda c: (1.0, 0.0), design)
        assert "First look" not in proposal_of(TreeParzen(0).propose(space, observations)).reasoning


def test_scheme_of_a_replayed_table_counts_as_one() -> None:
    """A table's own scheme sits among the engine settings and is a dimension like any other."""
    table = space_of(*(Configuration(engine=(("batch", b), ("scheme", s))) for s in ("AWQ", "QuIP") for b in (1, 2, 4)))
    observations = search(TreeParzen(0), table, lambda c: (1.0, 0.0), 2)
    assert [o.trial.configuration.settings["scheme"] for o in observations] == ["AWQ", "QuIP"]


def throughput(configuration: Configuration) -> tuple[float, float]:
    """Best at 64 sequences, W4A16 ahead of the others, fp8 cache a little better."""
    by_scheme = {"W4A16": 3.0, "W4A16-ASYM": 2.5, "W8A8-INT8": 2.0, "FP8-DYNAMIC": 1.0}
    by_sequences: dict[Scalar, float] = {1: 1, 4: 3, 16: 8, 64: 10, 256: 6}
    settings = configuration.settings
    score = by_scheme[configuration.scheme.value] * by_sequences[settings["max-num-seqs"]]
    return score * (1.1 if settings["kv-cache-dtype"] == "fp8" else 1.0), 0.0


def best_after(strategy: Strategy, steps: int, answer: Answer = throughput) -> float:
    observations = search(strategy, grid_space(), answer, steps)
    return max((o.score for o in observations if o.score is not None and o.violation == 0), default=0.0)


def test_what_was_learnt_beats_chance() -> None:
    tpe = mean(best_after(TreeParzen(seed), 10) for seed in range(12))
    chance = mean(best_after(RandomSearch(seed), 10) for seed in range(12))
    assert tpe > chance


def test_constraint_is_learnt_too() -> None:
    """The fastest schemes break a constraint: after the design they are asked for no more than need be."""

    def constrained(configuration: Configuration) -> tuple[float, float]:
        return throughput(configuration)[0], 0.5 if configuration.scheme.value.startswith("W4A16") else 0.0

    observations = search(TreeParzen(1), grid_space(), constrained, 14)
    broken = [o for o in observations[4:] if o.violation > 0]
    assert len(broken) <= 4, "half of the space breaks it"
    assert best_after(TreeParzen(1), 14, constrained) >= 20


def test_neighbourhood_of_failures_is_avoided() -> None:
    def half_fails(configuration: Configuration) -> tuple[float | None, float]:
        fails = configuration.settings["kv-cache-dtype"] == "fp8"
        return (None, 0.0) if fails else throughput(configuration)

    observations = search(TreeParzen(2), grid_space(), half_fails, 16)
    later = observations[6:]
    assert sum(o.score is None for o in later) <= len(later) / 3


def test_everything_failing_is_survived() -> None:
    observations = search(TreeParzen(0), grid_space(), lambda c: (None, 0.0), 12)
    assert len({o.trial.configuration for o in observations}) == 12


def test_seeds_differ_once_tpe_asks() -> None:
    def noisy(seed: int) -> Configuration:
        source = random.Random(seed)
        return search(TreeParzen(seed), grid_space(), lambda c: (source.random(), 0.0), 8)[-1].trial.configuration

    assert len({noisy(seed) for seed in range(6)}) > 1


def test_optuna_keeps_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    search(TreeParzen(0), grid_space(), throughput, 6)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert optuna.logging.get_verbosity() >= optuna.logging.WARNING
