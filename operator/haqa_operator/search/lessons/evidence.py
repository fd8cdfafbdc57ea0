"""The trials of a pool as evidence: rows of codes, and how far each of them came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from haqa_operator.api.trial import Trial
from haqa_operator.search.codes import Codes, Ints, Mask
from haqa_operator.search.lessons.causes import Cause, Stage, cause_of
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
    def causes(self) -> Mapping[str, Cause]:
        """Name of a failed trial -> what it says."""
        return {trial.name: cause_of(trial, self.codes.names) for trial in self.finished if not trial.succeeded}

    @cached_property
    def failed(self) -> tuple[Failed, ...]:
        found = ((trial, self.causes[trial.name]) for trial in self.finished if trial.name in self.causes)
        return tuple(Failed(trial, self.row(trial), cause) for trial, cause in found if cause.teaches)

    def row(self, trial: Trial) -> Ints:
        position = self.position(trial)
        return self.codes.row(trial.configuration) if position is None else np.asarray(self.codes.rows[position])

    def alike(self, trial: Trial, columns: Sequence[int]) -> Ints:
        """Positions of the candidates that have what the trial has in these columns."""
        position = self.position(trial)
        if position is not None:
            return self.codes.alike(position, columns)
        row, chosen = self.row(trial), list(columns)
        return np.flatnonzero((self.codes.rows[:, chosen] == row[chosen]).all(axis=1)).astype(np.int32)

    def position(self, trial: Trial) -> int | None:
        """Of the trial's configuration among the candidates; the baseline has none."""
        return self._positions[trial.name]

    def passed(self, stage: Stage) -> Ints:
        """Rows of the trials that got past a stage, trials x columns."""
        return np.asarray(self._rows[self._reached >= stage])

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
    def _positions(self) -> Mapping[str, int | None]:
        return {trial.name: self.space.index.positions.get(trial.configuration) for trial in self.trials}

    @cached_property
    def _rows(self) -> Ints:
        rows = [self.row(trial) for trial in self.finished]
        return np.stack(rows) if rows else np.zeros((0, len(self.codes.names)), dtype=np.int32)

    @cached_property
    def _reached(self) -> Ints:
        passed = (Stage.PASSED if trial.succeeded else self.causes[trial.name].passed for trial in self.finished)
        return np.fromiter(passed, dtype=np.int32, count=len(self.finished))
