"""Spaces are made once, and come back from where they are packed as they were."""

from __future__ import annotations

from dataclasses import fields

from tests.unit.search.builders import VLLM, model, nvidia

from haqa_contract import Workload
from haqa_operator.api.search_spec import Search
from haqa_operator.search.build import build_space
from haqa_operator.search.remembered import RememberedSpaces, pack, unpack
from haqa_operator.search.space import SearchSpace

L40S = build_space(Search(), nvidia(), model(), Workload(), VLLM)


def test_a_space_comes_back_as_it_was() -> None:
    found = unpack(pack(L40S))
    assert len(found.candidates) > 100
    for field in fields(SearchSpace):
        if field.compare:
            assert getattr(found, field.name) == getattr(L40S, field.name), field.name
    assert list(found.bounds) == list(L40S.bounds)
    assert found.index.positions == L40S.index.positions


def test_packed_it_takes_little() -> None:
    assert len(pack(L40S)) < 60 * len(L40S.candidates)


def test_what_is_closed_stays_so() -> None:
    found = unpack(pack(L40S.closing({L40S.candidates[0]: "it failed"})))
    assert dict(found.closed) == {L40S.candidates[0]: "it failed"}
    assert not found.open_mask(())[0]


def test_what_there_is_no_room_for_is_unpacked_and_not_made_again() -> None:
    made: list[int] = []

    def of(number: int) -> SearchSpace:
        made.append(number)
        return L40S

    remembered = RememberedSpaces(candidates=len(L40S.candidates) + 1)
    for _ in range(2):
        for number in range(3):
            assert remembered.get(number, lambda number=number: of(number)).candidates == L40S.candidates  # type: ignore[misc]
    assert made == [0, 1, 2]
    assert remembered.get(2, lambda: of(9)) is remembered.get(2, lambda: of(9))


def test_one_that_is_larger_than_all_that_is_kept_is_made_each_time() -> None:
    remembered = RememberedSpaces(candidates=1, packed_bytes=1)
    assert remembered.get("a", lambda: L40S) is L40S
    assert remembered.get("a", lambda: L40S) is L40S
