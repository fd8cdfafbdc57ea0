"""Which answers a person's word puts out of service. Pure: a pool's answers in, names of records out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from haqa_operator.api.status import AnswerPhase
from haqa_operator.cli.cluster.connection import CommandError
from haqa_operator.cluster.observe.revisions import History, Revision


@dataclass(frozen=True)
class Rollback:
    """Attributes:
    to: The answer that then serves.
    rejected: Names of all records of the pool that shall not be served.
    """

    to: Revision
    rejected: frozenset[str]


def roll_back(history: History, pool: str, number: int | None = None) -> Rollback:
    """Puts an earlier answer into service, or one that somebody had rejected.

    Args:
        number: Of the answer that shall serve; None: the one before the one that does, or shall.

    Raises:
        CommandError: there is none such.
    """
    own = {one.name for one in history.revisions}
    rejected = frozenset(history.rejected & own)
    if not history.revisions:
        raise CommandError(f"pool {pool} has no answer on record yet")
    target = _before(history, pool) if number is None else _numbered(history, pool, number)
    later = {one.name for one in history.revisions if one.number > target.number and one.phase not in _OUT}
    earlier = {one.name for one in history.revisions if one.number < target.number}
    return Rollback(target, frozenset((rejected & earlier) | later))


def written(before: Collection[str], of_pool: History, rejected: Collection[str]) -> str:
    """The annotation with a pool's part replaced; names of records that are gone are dropped with it."""
    own = {one.name for one in of_pool.revisions}
    return ",".join(sorted({*(name for name in before if name not in own), *rejected}))


_OUT = (AnswerPhase.ROLLED_BACK, AnswerPhase.DROPPED)


def _before(history: History, pool: str) -> Revision:
    wanted = history.wanted
    if wanted is None:
        raise CommandError(f"none of pool {pool}'s answers serves; name one with --revision")
    fit = [
        one
        for one in history.revisions
        if one.number < wanted.number
        and not one.has_pods_of(wanted)
        and one.phase not in _OUT
        and one.name not in history.rejected
    ]
    if not fit:
        raise CommandError(
            f"answer {wanted.number} of pool {pool} has none before it to go back to; to take the pool out of service "
            "scale its Deployment to 0"
        )
    return fit[-1]


def _numbered(history: History, pool: str, number: int) -> Revision:
    found = next((one for one in history.revisions if one.number == number), None)
    if found is None:
        known = ", ".join(str(one.number) for one in history.revisions)
        raise CommandError(f"pool {pool} has no answer {number}; on record are {known}")
    if found.phase is AnswerPhase.ROLLED_BACK:
        why = f" ({found.message})" if found.message else ""
        raise CommandError(f"answer {number} of pool {pool} was rolled back{why}; `haqa retry` has it tried again")
    if found.phase is AnswerPhase.DROPPED:
        raise CommandError(f"answer {number} of pool {pool} never served; name one that did")
    return found
