"""What every strategy keeps to, whatever the space and whatever has been measured."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.proposals import proposal_of
from tests.unit.search.builders import observed, space_of

from haqa_contract import Configuration
from haqa_operator.api.search_spec import SearchStrategy
from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.factory import make_strategy
from haqa_operator.search.grid import Grid
from haqa_operator.search.random_search import RandomSearch
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy

STRATEGIES = [SearchStrategy.BAYESIAN, SearchStrategy.TPE, SearchStrategy.RANDOM, SearchStrategy.GRID]

VALUES = {
    "max_num_seqs": (None, 8, 64, 256),
    "kv_cache_dtype": (None, "fp8"),
    "enforce_eager": (None, True),
    "optimization_level": (1, 3),
}
configurations = st.builds(
    lambda scheme, engine: Configuration.of(
        scheme, "none" if scheme == "BF16" else "rtn", **{name: v for name, v in engine.items() if v is not None}
    ),
    st.sampled_from(["BF16", "W8A8-INT8", "W4A16", "FP8-DYNAMIC"]),
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()}),
)
spaces = st.lists(configurations, min_size=1, max_size=14, unique=True).map(lambda found: space_of(*found))
Outcomes = list[tuple[float | None, float] | None]
"""Score and violation, trial after trial; None is a failure."""

outcomes = st.one_of(
    st.none(),
    st.tuples(st.floats(1, 1000), st.sampled_from([0.0, 0.0, 0.2, 1.5])),
    st.tuples(st.none(), st.just(0.4)),
)


def searched(
    strategy: Strategy, space: SearchSpace, results: Outcomes, steps: int | None = None
) -> tuple[list[Configuration], list[Observation]]:
    """Proposes and observes until nothing is left; `results` answers the trials one after the other."""
    observations = [observed(0, space.baseline, 100.0)]
    proposals: list[Configuration] = []
    while steps is None or len(proposals) < steps:
        proposal = strategy.propose(space, observations)
        if isinstance(proposal, Stop):
            break
        proposals.append(proposal.configuration)
        score, violation = results[len(proposals) % len(results)] or (None, 0.0)
        observations.append(observed(len(proposals), proposal.configuration, score, violation))
    return proposals, observations


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=25, deadline=None)
@given(space=spaces, results=st.lists(outcomes, min_size=1, max_size=8), seed=st.integers(0, 2**32))
def test_every_candidate_once_and_nothing_else(
    name: SearchStrategy, space: SearchSpace, results: Outcomes, seed: int
) -> None:
    proposals, _ = searched(make_strategy(name, seed), space, results)
    assert len(proposals) == len(set(proposals)), "never a repeat"
    assert set(proposals) == set(space.candidates), "the space exactly"


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(space=spaces, results=st.lists(outcomes, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_same_seed_and_measurements_give_the_same_proposals(
    name: SearchStrategy, space: SearchSpace, results: Outcomes, seed: int
) -> None:
    first, _ = searched(make_strategy(name, seed), space, results)
    again, _ = searched(make_strategy(name, seed), space, results)
    assert first == again


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(space=spaces, results=st.lists(outcomes, min_size=1, max_size=8), stop=st.integers(0, 14))
def test_restart_goes_on_as_if_nothing_had_happened(
    name: SearchStrategy, space: SearchSpace, results: Outcomes, stop: int
) -> None:
    whole, _ = searched(make_strategy(name, 3), space, results)
    before, observations = searched(make_strategy(name, 3), space, results, steps=stop)
    after = make_strategy(name, 3).propose(space, observations)
    assert before == whole[:stop]
    assert (after.configuration if isinstance(after, Proposal) else None) == (
        whole[stop] if stop < len(whole) else None
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_empty_space_has_nothing_to_propose(name: SearchStrategy) -> None:
    assert make_strategy(name, 0).propose(space_of(), []) == ALL_TRIED


@pytest.mark.parametrize("name", STRATEGIES)
def test_single_candidate_is_proposed_and_then_nothing(name: SearchStrategy) -> None:
    only = Configuration.of("W4A16", "gptq")
    strategy, space = make_strategy(name, 0), space_of(only)
    proposal = proposal_of(strategy.propose(space, []))
    assert proposal.configuration == only
    assert proposal.reasoning
    assert strategy.propose(space, [observed(1, only, 5.0)]) == ALL_TRIED


def test_observations_of_configurations_outside_the_space_do_no_harm() -> None:
    space = space_of(*(Configuration.of("W4A16", "gptq", max_num_seqs=n) for n in range(1, 12)))
    outside = [observed(n, Configuration.of("NVFP4", "rtn", block_size=n), 10.0) for n in range(8)]
    for name in STRATEGIES:
        assert proposal_of(make_strategy(name, 0).propose(space, outside)).configuration in space


def test_random_seeds_differ() -> None:
    space = space_of(*(Configuration.of("W4A16", "gptq", max_num_seqs=n) for n in range(100)))
    assert len({proposal_of(RandomSearch(seed).propose(space, [])).configuration for seed in range(20)}) > 10


def test_grid_keeps_the_order_of_the_candidates() -> None:
    candidates = [Configuration.of("W4A16", "gptq", max_num_seqs=n) for n in (5, 1, 9)]
    proposals, _ = searched(Grid(), space_of(*candidates), [(1.0, 0.0)])
    assert proposals == candidates


def test_proposals_say_who_made_them() -> None:
    space = space_of(Configuration.of("W4A16", "gptq"))
    assert proposal_of(make_strategy(SearchStrategy.GRID, 0).propose(space, [])).proposer is Proposer.GRID
    assert proposal_of(make_strategy(SearchStrategy.RANDOM, 0).propose(space, [])).proposer is Proposer.RANDOM
    assert proposal_of(make_strategy(SearchStrategy.BAYESIAN, 0).propose(space, [])).proposer is Proposer.BAYESIAN
    assert proposal_of(make_strategy(SearchStrategy.AGENT, 0).propose(space, [])).proposer is Proposer.BAYESIAN
