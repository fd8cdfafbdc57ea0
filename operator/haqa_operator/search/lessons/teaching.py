"""What a pool's trials rule out, and the space without it.

Everything follows from the trials alone, so a restart, another process or another order of looking at them ends with
the same space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from haqa_operator.api.goals import Constraint
from haqa_operator.api.trial import Trial
from haqa_operator.decision.results import Exclusion
from haqa_operator.search.candidate_index import Closed
from haqa_operator.search.codes import Mask
from haqa_operator.search.lessons.attribution import attributed
from haqa_operator.search.lessons.evidence import Evidence
from haqa_operator.search.lessons.lesson import Lesson
from haqa_operator.search.lessons.monotonicity import Implications
from haqa_operator.search.space import SearchSpace


def taught(space: SearchSpace, trials: Sequence[Trial], constraints: Sequence[Constraint]) -> SearchSpace:
    """The space with everything closed that these trials rule out, and `lessons` that say so.

    Args:
        trials: The pool's trials in any order. Unfinished ones teach nothing, but where one candidate is left open to
            settle a doubt, a trial of it may be running already.
        constraints: What a winner has to keep.
    """
    evidence = Evidence.of(space, trials)
    if all(trial.succeeded for trial in evidence.finished) and not constraints:
        return space
    attributions = list(attributed(evidence))
    join = _Joined(space, evidence)
    for lesson in attributions:
        if not lesson.doubtful:
            join.close(lesson)
    for lesson in Implications(evidence, constraints, join.news).lessons():
        join.close(lesson)
    doubts = [lesson for lesson in attributions if lesson.doubtful]
    left = [_left_open(evidence, lesson, join.news) for lesson in doubts]
    join.news[[position for position in left if position is not None]] = False
    for lesson, position in zip(doubts, left, strict=True):
        join.close(lesson, position)
    return replace(space, closed=join.closed, lessons=(*space.lessons, *join.told)) if join.told else space


class _Joined:
    """Lessons as they are learnt, each with what it adds to those before it.

    Attributes:
        news: For each candidate, whether it may be closed yet: open, and not tried.
        told: What each lesson adds.
    """

    def __init__(self, space: SearchSpace, evidence: Evidence) -> None:
        self.news = space.open_mask(()) & evidence.untried
        self.told: list[Exclusion] = []
        self._space = space
        self._why = space.shut.why.copy()
        self._sentences = list(space.shut.sentences)

    def close(self, lesson: Lesson, left: int | None = None) -> None:
        """Closes what is new in it.

        Args:
            left: Position of the candidate that would settle a doubt.
        """
        closes = lesson.closes[self.news[lesson.closes]]
        if not len(closes):
            return
        sentence = lesson.sentence
        if left is not None:
            sentence += f"; {self._space.candidates[left].describe()} is left to show whether that is so"
        self._why[closes] = len(self._sentences)
        self._sentences.append(sentence)
        self.news[closes] = False
        parameters = dict(lesson.parameters)
        self.told.append(
            Exclusion(parameters=parameters, reason=sentence, configurations=len(closes), trial=lesson.trial)
        )

    @property
    def closed(self) -> Closed:
        return Closed(self._space.index, self._why, tuple(self._sentences))


def _left_open(evidence: Evidence, lesson: Lesson, able: Mask) -> int | None:
    """The candidate that settles a doubt: as unlike the failed trial as there is one in all else that may be at fault.

    None where a trial of one is running, or nothing is left to try.
    """
    codes = evidence.codes
    if any((codes.rows[lesson.closes] == row).all(axis=1).any() for row in evidence.running):
        return None
    closes = lesson.closes[able[lesson.closes]]
    if not len(closes):
        return None
    unlike = np.zeros(len(closes), dtype=np.int32)
    for column, code in lesson.unlike:
        unlike += codes.rows[closes, column] != code
    return int(closes[int(np.argmax(unlike))])
