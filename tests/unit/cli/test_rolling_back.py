"""Which records a person's word puts out of service, by tables."""

from __future__ import annotations

import pytest

from haqa_operator.api.answer import Answer, Surroundings
from haqa_operator.api.status import AnswerPhase, PoolStatus
from haqa_operator.cli.cluster.connection import CommandError
from haqa_operator.cli.cluster.rolling_back import roll_back, written
from haqa_operator.cluster.observe.revisions import History, Revision

SERVING, RETIRED = AnswerPhase.SERVING, AnswerPhase.RETIRED
ROLLED_BACK, DROPPED, DECIDED = AnswerPhase.ROLLED_BACK, AnswerPhase.DROPPED, AnswerPhase.DECIDED


def history(*phases: AnswerPhase, rejected: frozenset[str] = frozenset()) -> History:
    """Answers named r1, r2, ... in these phases."""
    answer = Answer(
        tuning="t",
        pool="a",
        key="k",
        asked="q",
        trial="t-a-001",
        configuration="W4A16",
        reason="",
        surroundings=Surroundings(engine_image="vllm", model_digest="m"),
        status=PoolStatus(name="a"),
        decided=0.0,
    )
    revisions = (Revision(f"r{number}", number, answer, phase) for number, phase in enumerate(phases, 1))
    return History(tuple(revisions), rejected)


@pytest.mark.parametrize(
    ("phases", "rejected", "number", "to", "out"),
    [
        ((RETIRED, SERVING), set(), None, 1, {"r2"}),
        ((RETIRED, RETIRED, SERVING), set(), None, 2, {"r3"}),
        ((RETIRED, RETIRED, SERVING), set(), 1, 1, {"r2", "r3"}),
        ((RETIRED, SERVING, ROLLED_BACK), set(), None, 1, {"r2"}),
        ((RETIRED, ROLLED_BACK, SERVING), set(), None, 1, {"r3"}),
        ((SERVING, DECIDED), set(), None, 1, {"r2"}),
        ((SERVING, RETIRED), {"r2"}, 2, 2, set()),
        ((RETIRED, RETIRED, SERVING), {"r2"}, None, 1, {"r2", "r3"}),
        ((RETIRED, RETIRED, SERVING), {"r1"}, None, 2, {"r1", "r3"}),
        ((SERVING, RETIRED), {"r2", "of-another-pool"}, 2, 2, set()),
    ],
)
def test_the_answer_to_go_to_and_what_is_rejected(
    phases: tuple[AnswerPhase, ...], rejected: set[str], number: int | None, to: int, out: set[str]
) -> None:
    found = history(*phases, rejected=frozenset(rejected))
    rollback = roll_back(found, "a", number)
    assert (rollback.to.number, set(rollback.rejected)) == (to, out)
    after = history(*phases, rejected=rollback.rejected)
    assert after.wanted is not None
    assert after.wanted.number == to


@pytest.mark.parametrize(
    ("phases", "number", "said"),
    [
        ((), None, "no answer on record"),
        ((SERVING,), None, "has none before it"),
        ((ROLLED_BACK,), None, "none of pool a's answers serves"),
        ((ROLLED_BACK, SERVING), None, "has none before it"),
        ((RETIRED, SERVING), 3, "on record are 1, 2"),
        ((SERVING, ROLLED_BACK), 2, "`haqa retry` has it tried again"),
        ((DROPPED, SERVING), 1, "never served"),
    ],
)
def test_where_there_is_nothing_to_go_to_a_sentence_says_so(
    phases: tuple[AnswerPhase, ...], number: int | None, said: str
) -> None:
    with pytest.raises(CommandError, match=said):
        roll_back(history(*phases), "a", number)


@pytest.mark.parametrize(
    ("before", "rejected", "text"),
    [
        ((), {"r2"}, "r2"),
        (("r2", "other"), set(), "other"),
        (("r1", "other"), {"r1", "r2"}, "other,r1,r2"),
        (("r2",), set(), ""),
    ],
)
def test_records_of_other_pools_stay_rejected(before: tuple[str, ...], rejected: set[str], text: str) -> None:
    assert written(before, history(RETIRED, SERVING), rejected) == text
