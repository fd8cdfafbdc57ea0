"""What is kept of one search, in a file that a later run goes on from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from haqa_operator.api.base import ResourceModel
from haqa_operator.api.search_spec import Patience
from haqa_operator.decision.results import Decision, Verdict
from haqa_operator.replay.bench.problems import Half, Problem
from haqa_operator.replay.bench.runs import Trace


class Task(ResourceModel):
    """One search: equal tasks have equal outcomes, except where a language model or another library draws lots."""

    problem: str
    strategy: str
    agent: str | None = None
    seed: int
    trials: int
    noise_percent: float = 0.0
    patience: Patience = Patience.UNLIMITED
    table: str
    """Hash of the problem: another table, other limits or another baseline make another task"""


class Outcome(ResourceModel):
    """How a search went. Lists begin with the baseline."""

    task: Task
    half: Half
    family: str
    source: str
    shares: tuple[float, ...] = ()
    """Share of the best feasible value found up to here"""
    regrets: tuple[float, ...] = ()
    """Distance to the best, 0 to 1 (`Problem.regret`)"""
    hours: tuple[float, ...] = ()
    """Machine-hours up to here"""
    failed: int = 0
    """Own trials without a result"""
    infeasible: int = 0
    """Own trials whose result breaks a limit"""
    tokens: int = 0
    thinking_seconds: tuple[float, ...] = ()
    """What each proposal took"""
    stopped: str | None = None
    """Why the strategy ended by itself"""
    wrong_winner: bool | None = None
    """HAQA would have announced a winner that breaks a limit or is worse than a feasible baseline; none = no noise"""
    false_win: bool | None = None
    """It announced one where all configurations were the same; none = no noise"""
    error: str | None = None
    """The strategy failed; the rest says how far it had come"""

    @property
    def own_trials(self) -> int:
        return len(self.shares) - 1

    @property
    def label(self) -> str:
        """The strategy, with its agent where it asks one."""
        return self.task.strategy + (f" ({self.task.agent})" if self.task.agent else "")


def outcome_of(task: Task, problem: Problem, trace: Trace, null: Trace | None = None) -> Outcome:
    """What is kept of a trace.

    Args:
        null: The same search where all configurations are alike.
    """
    own = trace.steps[1:]
    return Outcome(
        task=task,
        half=problem.half,
        family=problem.family,
        source=problem.source,
        shares=tuple(round(step.share, 6) for step in trace.steps),
        regrets=tuple(round(step.regret, 6) for step in trace.steps),
        hours=tuple(round(step.machine_hours, 4) for step in trace.steps),
        failed=sum(step.failed for step in own),
        infeasible=sum(not (step.failed or step.feasible) for step in own),
        tokens=trace.steps[-1].tokens,
        thinking_seconds=tuple(round(step.thinking_s, 4) for step in own),
        stopped=trace.stopped,
        wrong_winner=_wrong_winner(problem, trace) if task.noise_percent else None,
        false_win=_won(null.decision) if null is not None else None,
    )


def _won(decision: Decision | None) -> bool:
    return decision is not None and decision.verdict is Verdict.WINNER


def _wrong_winner(problem: Problem, trace: Trace) -> bool:
    if not _won(trace.decision) or trace.decision is None:
        return False
    winner = next(step.trial for step in trace.steps if step.trial.name == trace.decision.winner)
    truth, baseline = problem.truth[winner.configuration], problem.truth[problem.baseline]
    if truth.score is None or truth.violation:
        return True
    return baseline.score is not None and not baseline.violation and truth.score < baseline.score


def digest(problem: Problem) -> str:
    """A hash of everything that a search of a problem depends on."""
    rows = [
        (c.describe(), sorted((n, e.value) for n, e in row.metrics.items()), row.expected)
        for c, row in problem.table.rows.items()
    ]
    limits = [limit.describe() for limit in problem.constraints]
    text = repr((rows, str(problem.objective.key), limits, problem.baseline.describe(), problem.table.notes.load))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """Outcomes, one JSON object a line; a line that was cut off when the machine went down is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[Outcome]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(Outcome.model_validate_json(line))
            except ValidationError:
                continue
        return found

    def add(self, outcomes: Iterable[Outcome]) -> None:
        cut_off = self._path.exists() and not self._path.read_bytes().endswith(b"\n") and self._path.stat().st_size
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut_off else "") + "".join(o.model_dump_json(by_alias=True) + "\n" for o in outcomes))
            file.flush()
            os.fsync(file.fileno())
