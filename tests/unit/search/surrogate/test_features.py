"""What a configuration looks like to the surrogate."""

from tests.unit.search.builders import space_of
from tests.unit.search.surrogate.tables import loads_space

from haqa_contract import Configuration
from haqa_operator.search.surrogate.features import ACTIVATION_BITS, WEIGHT_BITS, features_of


def test_numbers_are_doublings_away_from_the_baseline_and_the_rest_are_categories() -> None:
    space = loads_space()
    features = features_of(space)
    assert features.numbers == ("load",)
    assert list(features.categories) == ["kind"]
    rows = features.rows(
        [space.baseline, Configuration.of(load=16, kind="slow"), Configuration.of(load=1, kind="fast")]
    )
    assert rows[:, 0].tolist() == [0.0, 3.0, -1.0]
    assert rows[0, 1] == rows[1, 1] != rows[2, 1]


def test_a_scheme_is_its_bits_beside_its_name() -> None:
    features = features_of(space_of(Configuration.of("W4A16", "rtn"), Configuration.of("W8A8-INT8", "rtn")))
    assert set(features.numbers) == {WEIGHT_BITS, ACTIVATION_BITS}
    assert {"scheme", "algorithm"} <= set(features.categories)
    weights = features.names.index(WEIGHT_BITS)
    assert features.rows([Configuration.of("W4A16", "rtn")])[0, weights] == -2.0


def test_a_setting_that_some_leave_to_the_engine_has_no_order() -> None:
    space = space_of(Configuration.of(max_num_seqs=64), Configuration.of(max_num_seqs=256))
    assert list(features_of(space).categories) == ["max-num-seqs"]


def test_true_and_one_are_different_values() -> None:
    space = space_of(Configuration.of(enforce_eager=True), Configuration.of(enforce_eager=1))
    assert len(features_of(space).categories["enforce-eager"]) == 3


def test_a_value_of_another_space_is_like_none_of_this_one() -> None:
    space = loads_space()
    features = features_of(space)
    assert features.rows([Configuration.of(load=4, kind="other", more=1)])[0].tolist() == [1.0, -1.0]
