"""A tuning's answers, one a line: who approved them, how far they came, and why one was taken back. Pure."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    table = Table(title=safe_text(f"Answers for pool {pool}"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("#", justify="right")
    for heading in ("decided", "what serves", "speed-up", "phase", "approved by", "why"):
        table.add_column(heading, overflow="fold")
    for revision in reversed(history.revisions):
        rejected = revision.name in history.rejected
        phase = Text(revision.phase.value, _STYLES.get(revision.phase, "cyan"))
        if rejected:
            phase.append("\nrejected", "red")
        table.add_row(
            str(revision.number),
            stamp(revision.answer.decided),
            safe_text(f"{revision.answer.configuration}\n{revision.answer.trial}"),
            safe_text(_speedup(revision)),
            phase.append(f"\n{stamp(revision.since)}", "dim"),
            safe_text(revision.kept.get(APPROVED_BY_ANNOTATION, "")),
            safe_text(revision.message),
        )
    problem = [safe_text(history.unreadable, "red")] if history.unreadable else []
    return Group(table, *problem)


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


def _speedup(revision: Revision) -> str:
    answer = revision.answer
    if answer.speedup is None:
        return ""
    interval = wording.ratio_interval_text(answer.speedup).removeprefix("95 % interval ")
    return "\n".join(
        filter(None, (wording.ratio_text(answer.speedup), interval, "confirmed" if answer.confirmed else ""))
    )
