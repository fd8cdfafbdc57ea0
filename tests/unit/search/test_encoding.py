"""Configurations as rows of numbers."""

from tests.unit.search.builders import space_of

from haqa_contract import Configuration
from haqa_operator.search.encoding import dimensions_of, distances, encode, encode_space, spread


def test_only_what_differs_is_a_dimension() -> None:
    dimensions = dimensions_of([Configuration.of("W4A16", "gptq", max_num_seqs=n, block_size=16) for n in (64, 8, 256)])
    assert [(d.name, d.values, d.ordered) for d in dimensions] == [("max-num-seqs", (8, 64, 256), True)]


def test_gap_and_text_are_categories() -> None:
    dimensions = dimensions_of([Configuration.of(max_num_seqs=8), Configuration.of(kv_cache_dtype="fp8")])
    assert {d.name: (d.values, d.ordered) for d in dimensions} == {
        "max-num-seqs": ((8, None), False),
        "kv-cache-dtype": ((None, "fp8"), False),
    }


def test_true_and_one_are_two_values() -> None:
    dimensions = dimensions_of([Configuration.of(x=True), Configuration.of(x=1)])
    assert len(dimensions[0].values) == 2


def test_value_that_no_candidate_has_cannot_be_encoded() -> None:
    dimensions = dimensions_of([Configuration.of(max_num_seqs=n) for n in (8, 64)])
    assert encode(Configuration.of(max_num_seqs=64), dimensions) == [1]
    assert encode(Configuration.of(max_num_seqs=9), dimensions) is None
    assert encode(Configuration.of(), dimensions) is None


def test_neighbours_in_order_are_near_and_categories_are_apart() -> None:
    dimensions, rows = encode_space(
        space_of(*(Configuration.of(s, "rtn", max_num_seqs=n) for s in ("W4A16", "W8A8-INT8") for n in (1, 2, 3)))
    )
    away = distances(rows, rows[0], dimensions)
    assert away.tolist() == [0, 0.5, 1, 1, 1.5, 2]
    assert spread(rows, dimensions).argmin() == 1, "the middle of the settings"


def test_space_of_one_has_no_dimensions() -> None:
    dimensions, rows = encode_space(space_of(Configuration.of("W4A16", "rtn")))
    assert dimensions == ()
    assert rows.shape == (1, 0)
    assert distances(rows, [], dimensions).tolist() == [0]
