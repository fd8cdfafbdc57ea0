"""The trials of a pool as evidence: rows of codes, and how far each of them came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from haqa_operator.api.trial import Trial
from haqa_operator.search.codes import Codes, Ints, Mask
from haqa_operator.search.lessons.causes import Cause, Stage, cause_of, stage_passed
from haqa_operator.search.space import SearchSpace


@dataclass(frozen=True)
class Failed:
    """A trial whose configuration is at fault."""

    trial: Trial
    row: Ints
    cause: Cause


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that lessons follow from.

    Attributes:
        trials: The pool's trials, finished or not, by number.
    """

    space: SearchSpace
    trials: tuple[Trial, ...]

    @classmethod
    def of(cls, space: SearchSpace, trials: Sequence[Trial]) -> Evidence:
        return cls(space, tuple(sorted(trials, key=lambda trial: trial.number)))

    @property
    def codes(self) -> Codes:
        return self.space.index.codes

    @cached_property
    def finished(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.status.phase.finished)

    @cached_property
    def failed(self) -> tuple[Failed, ...]:
        found = ((trial, cause_of(trial, self.codes.names)) for trial in self.finished if not trial.succeeded)
        return tuple(Failed(trial, self.row(trial), cause) for trial, cause in found if cause.teaches)

    def row(self, trial: Trial) -> Ints:
        position = self.position(trial)
        return self.codes.row(trial.configuration) if position is None else np.asarray(self.codes.rows[position])

    def position(self, trial: Trial) -> int | None:
        """Of the trial's configuration among the candidates; the baseline has none."""
        return self.space.index.positions.get(trial.configuration)

    def passed(self, stage: Stage) -> Ints:
        """Rows of the trials that got past a stage, trials x columns."""
        rows = [row for row, reached in self._reached if reached >= stage]
        return np.stack(rows) if rows else np.zeros((0, len(self.codes.names)), dtype=np.int32)

    @cached_property
    def untried(self) -> Mask:
        """Candidates of which no trial was made."""
        found = np.ones(len(self.space.candidates), dtype=np.bool_)
        positions = (self.position(trial) for trial in self.trials)
        found[[position for position in positions if position is not None]] = False
        return found

    @cached_property
    def running(self) -> tuple[Ints, ...]:
        return tuple(self.row(trial) for trial in self.trials if not trial.status.phase.finished)

    @cached_property
    def suspectable(self) -> tuple[int, ...]:
        """Columns in which candidates differ, or in which all of them differ from the baseline."""
        baseline, rows = self.codes.row(self.space.baseline), self.codes.rows
        return tuple(i for i in range(len(baseline)) if len(rows) and (rows[:, i] != baseline[i]).any())

    @cached_property
    def _reached(self) -> tuple[tuple[Ints, Stage], ...]:
        return tuple((self.row(trial), stage_passed(trial)) for trial in self.finished)
