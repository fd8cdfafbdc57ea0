"""A tuning's answers: who approved them, how far they came, and why one was taken back. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import APPROVED_AT_ANNOTATION, APPROVED_BY_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase
from haqa_operator.cluster.observe.revisions import History, Revision, stamp
from haqa_operator.report import wording
from haqa_operator.report.table import safe_text

_STYLES = {
    AnswerPhase.SERVING: "green",
    AnswerPhase.ROLLED_BACK: "red",
    AnswerPhase.RETIRED: "dim",
    AnswerPhase.DROPPED: "dim",
}


def history_view(pool: str, history: History) -> RenderableType:
    """A pool's answers, newest first."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold")
    grid.add_column(overflow="fold")
    for revision in reversed(history.revisions):
        grid.add_row(str(revision.number), Group(*_lines(revision, revision.name in history.rejected)))
    problem = [safe_text(history.unreadable, "red")] if history.unreadable else []
    return Group(safe_text(f"Answers for pool {pool}", "italic"), grid, *problem)


def _lines(revision: Revision, rejected: bool) -> Iterator[Text]:
    answer, kept = revision.answer, revision.kept
    head = Text(revision.phase.value, _STYLES.get(revision.phase, "cyan"))
    head.append(f" since {stamp(revision.since)}", "dim")
    if rejected:
        head.append("  rejected", "red")
    yield head
    yield safe_text(f"{answer.configuration}{_speedup(answer)}")
    yield safe_text(f"{answer.trial}, decided {stamp(answer.decided)}", "dim")
    if (who := kept.get(APPROVED_BY_ANNOTATION)) is not None:
        yield safe_text(f"approved by {who}, {kept.get(APPROVED_AT_ANNOTATION, '')}".rstrip(", "))
    if revision.message:
        yield safe_text(revision.message)


def history_document(history: History) -> list[Manifest]:
    """For programs."""
    return [_document(revision, history) for revision in history.revisions]


def _document(revision: Revision, history: History) -> Manifest:
    answer = revision.answer
    return {
        "pool": answer.pool,
        "revision": revision.number,
        "record": revision.name,
        "trial": answer.trial,
        "configuration": answer.configuration,
        "decided": stamp(answer.decided),
        "phase": revision.phase.value,
        "since": stamp(revision.since),
        "message": revision.message,
        "rejected": revision.name in history.rejected,
        "approvedBy": revision.kept.get(APPROVED_BY_ANNOTATION),
        "approvedAt": revision.kept.get(APPROVED_AT_ANNOTATION),
        "speedup": answer.speedup.model_dump(mode="json") if answer.speedup else None,
        "confirmed": answer.confirmed,
        "reason": answer.reason,
    }


def _speedup(answer: Answer) -> str:
    if answer.speedup is None:
        return ""
    interval = wording.ratio_interval_text(answer.speedup)
    details = ", ".join(filter(None, (interval, "confirmed" if answer.confirmed else "not confirmed")))
    return f"  {wording.ratio_text(answer.speedup)} ({details})"
