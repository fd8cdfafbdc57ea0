"""The tuning's limits: what they ask for, who keeps them, and how close everything came."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.api.goals import Constraint
from haqa_operator.decision.constraints import Finding, measured
from haqa_operator.decision.evidence import Evidence
from haqa_operator.decision.results import PoolResult
from haqa_operator.report import wording


@dataclass(frozen=True)
class LimitRow:
    """One constraint over all trials.

    Attributes:
        baseline: What the baseline has.
        kept, judged: Trials that keep it, of those it could be judged for.
        closest_miss: The trial that broke it by least, with what it reached; empty when none broke it.
    """

    constraint: Constraint
    baseline: str
    winner: Finding | None
    kept: int
    judged: int
    closest_miss: str


def build_limits(constraints: tuple[Constraint, ...], result: PoolResult, evidence: Evidence) -> tuple[LimitRow, ...]:
    """A row for each of the tuning's constraints."""
    return tuple(_row(constraint, result, evidence) for constraint in dict.fromkeys(constraints))


def finding_of(findings: tuple[Finding, ...], constraint: Constraint) -> Finding | None:
    return next((finding for finding in findings if finding.constraint == constraint), None)


def _row(constraint: Constraint, result: PoolResult, evidence: Evidence) -> LimitRow:
    judged = [(item, found) for item in evidence.judged if (found := finding_of(item.findings, constraint))]
    broken = [(item, found) for item, found in judged if not found.met and found.achieved]
    miss = min(broken, key=lambda pair: (pair[1].excess, pair[0].trial.number), default=None)
    winner = next((found for item, found in judged if item.trial.name == result.decision.winner), None)
    baseline = evidence.against(constraint.key)
    return LimitRow(
        constraint=constraint,
        baseline=wording.value_text(constraint.key, measured(baseline, constraint.key) if baseline else None),
        winner=winner,
        kept=sum(found.met for _, found in judged),
        judged=len(judged),
        closest_miss=f"#{miss[0].trial.number} at {miss[1].achieved}" if miss else "",
    )
