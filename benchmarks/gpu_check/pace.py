"""How long each row may take, so that a format in which a device crawls leaves time for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.gpu_check.rows import Row

from haqa_contract import FailureReason, Scheme
from haqa_operator.api import TrialStatus

_SHARES = 3
"""A row may take so many times its share of what is left: rows differ, and most take less than it."""
_LEAST_S = 20.0
"""A row that is begun with less time than this ends as a timeout, and says nothing."""


@dataclass
class Pace:
    """What is left of a list of rows that are run in their order.

    Args:
        rows: All of them, those that are refused too.
    """

    rows: Sequence[Row]
    _crawling: dict[Scheme, str] = field(default_factory=dict, init=False)

    def skipped(self, row: Row, left_s: float) -> str | None:
        """Why a row is not begun."""
        if row.refused is not None:
            return f"HAQA does not try it: {row.refused}"
        if (slow := self._crawling.get(row.configuration.scheme)) is not None:
            return f"{slow} took too long"
        return "no time was left" if left_s < _LEAST_S else None

    def limit_s(self, number: int, left_s: float) -> float:
        """Seconds that a row may take."""
        to_come = sum(self._may_run(row) for row in self.rows[number:])
        return min(left_s, max(_LEAST_S, _SHARES * left_s / to_come))

    def ended(self, row: Row, status: TrialStatus) -> None:
        """Tells how a row ended: what needed too long with one algorithm does with another."""
        if status.failure is not None and status.failure.reason is FailureReason.TIMEOUT:
            self._crawling.setdefault(row.configuration.scheme, row.configuration.describe())

    def _may_run(self, row: Row) -> bool:
        return row.refused is None and row.configuration.scheme not in self._crawling
