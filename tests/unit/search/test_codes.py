"""Candidates as rows of small integers, and what is closed among them."""

from tests.unit.search.builders import space_of

from haqa_contract import Configuration
from haqa_operator.search.codes import UNKNOWN, Codes

SETTINGS = [Configuration.of("W4A16", "rtn", max_num_seqs=n) for n in (8, 64)] + [Configuration.of(x=True)]


def test_equal_values_have_equal_codes_and_a_gap_is_a_value() -> None:
    codes = Codes.of(SETTINGS)
    seqs = codes.column("max-num-seqs")
    assert seqs is not None
    assert len(set(codes.rows[:, seqs].tolist())) == 3
    assert [codes.values[seqs][code] for code in codes.rows[:, seqs]] == [8, 64, None]


def test_the_row_of_a_candidate_is_its_own_and_strange_values_are_unknown() -> None:
    codes = Codes.of(SETTINGS)
    assert all((codes.row(one) == row).all() for one, row in zip(SETTINGS, codes.rows, strict=True))
    assert (codes.row(Configuration.of(max_num_seqs=9)) == UNKNOWN).sum() == 1


def test_true_and_one_are_two_values() -> None:
    codes = Codes.of([Configuration.of(x=True), Configuration.of(x=1)])
    assert codes.rows[0, codes.names.index("x")] != codes.rows[1, codes.names.index("x")]


def test_a_tables_own_scheme_wins() -> None:
    codes = Codes.of([Configuration(engine=(("scheme", "awq-marlin"),))])
    assert "awq-marlin" in codes.values[codes.names.index("scheme")]


def test_candidates_alike_in_some_columns_are_found_together() -> None:
    codes = Codes.of([Configuration.of(s, "rtn", max_num_seqs=n) for s in ("W4A16", "W8A16") for n in (1, 2)])
    assert codes.alike(0, [codes.names.index("max-num-seqs")]).tolist() == [0, 2]
    assert codes.alike(3, [codes.names.index("scheme")]).tolist() == [2, 3]
    assert codes.alike(1, []).tolist() == [0, 1, 2, 3]


def test_what_is_closed_first_keeps_its_reason_and_only_candidates_are_closed() -> None:
    space = space_of(*SETTINGS).closing({SETTINGS[0]: "is being measured", Configuration.of(max_num_seqs=9): "strange"})
    space = space.closing({SETTINGS[0]: "must fail", SETTINGS[1]: "must fail"})
    assert space.closed == {SETTINGS[0]: "is being measured", SETTINGS[1]: "must fail"}
    assert list(space.open(())) == [SETTINGS[2]]
    assert list(space.open({SETTINGS[2]})) == []
    assert SETTINGS[2] not in space.closed


def test_what_is_worked_out_once_is_handed_on() -> None:
    space = space_of(*SETTINGS)
    assert space.closing({SETTINGS[0]: "no"}).index is space.index
    assert space_of(*SETTINGS[1:]).index is not space.index
