from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.builders import make_large_space, make_space

from haqa_contract import Configuration
from haqa_operator.agent.candidates import SHORTLIST_LENGTH, Block, Catalogue, blocks, ranges, shortlist
from haqa_operator.search.space import SearchSpace

ROWS = st.lists(st.tuples(*(st.sampled_from("abcd") for _ in range(3))), min_size=1, unique=True)


@given(ROWS)
def test_blocks_are_exactly_the_rows_and_none_twice(rows: list[tuple[str, ...]]) -> None:
    expanded = [row for block in blocks(rows) for row in product(*block.values)]
    assert sorted(expanded) == sorted(rows)


def test_a_full_product_is_one_block() -> None:
    rows = list(product("ab", "xyz", "12"))
    assert blocks(rows) == (Block((("a", "b"), ("x", "y", "z"), ("1", "2"))),)


def test_a_missing_corner_splits_only_where_it_is_missing() -> None:
    rows = [row for row in product("abc", "xyz", "12") if row[:2] != ("c", "z")]
    assert len(blocks(rows)) == 2


def test_parameters_that_all_candidates_share_are_said_once() -> None:
    catalogue = Catalogue.of(make_space(schemes=(("W4A16", "gptq"),)))
    assert catalogue.names == ("max-num-seqs",)
    assert catalogue.shared == (("scheme", "W4A16"), ("algorithm", "gptq"))
    assert catalogue.rows == (("default",), ("64",))


def test_a_configuration_is_described_by_what_tells_it_from_the_others() -> None:
    space = make_space(schemes=(("W4A16", "gptq"),))
    catalogue = Catalogue.of(space)
    assert catalogue.describe(space.candidates[1]) == "max-num-seqs=64"
    assert catalogue.describe(space.baseline) == "scheme=BF16, algorithm=none"


def test_a_single_candidate_is_still_listed() -> None:
    space = SearchSpace(Configuration.of(), (Configuration.of("W4A16", "gptq"),))
    assert Catalogue.of(space).rows == ((),)
    assert Catalogue.of(space).describe(space.candidates[0]) == "scheme=W4A16, algorithm=gptq"


def test_schemes_of_a_replayed_table_are_shown_by_their_own_names() -> None:
    foreign = tuple(Configuration(engine=(("scheme", name),)) for name in ("QServe-W4A8KV4", "TRT-FP16"))
    assert Catalogue.of(SearchSpace(Configuration.of(), foreign)).rows == (("QServe-W4A8KV4",), ("TRT-FP16",))


def test_the_shortlist_leads_with_neighbours_of_the_best() -> None:
    catalogue = Catalogue.of(make_large_space())
    untried = [i for i in range(len(catalogue.rows)) if i != 7]
    chosen = shortlist(catalogue.rows, untried, [7])
    first = catalogue.rows[chosen[0]]
    assert sum(a != b for a, b in zip(first, catalogue.rows[7], strict=True)) == 1
    assert len(chosen) == len(set(chosen)) == SHORTLIST_LENGTH
    assert {catalogue.rows[i][0] for i in chosen} == {"W8A8-INT8", "W4A16"}
    assert set(chosen) <= set(untried)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([9, 0, 1, 4], "0-1, 4, 9")],
)
def test_numbers_are_written_as_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
