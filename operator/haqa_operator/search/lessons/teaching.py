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
from haqa_operator.search.codes import Ints, Mask
from haqa_operator.search.lessons.attribution import attributed
from haqa_operator.search.lessons.evidence import Evidence
from haqa_operator.search.lessons.lesson import Lesson
from haqa_operator.search.lessons.monotonicity import implied
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
    lessons = [*attributed(evidence), *implied(evidence, constraints)]
    if not lessons:
        return space
    sure = [lesson for lesson in lessons if not lesson.doubtful]
    shut = space.shut.mask
    for lesson in sure:
        shut[lesson.closes] = True
    doubts = [lesson for lesson in lessons if lesson.doubtful]
    kept = np.zeros(len(shut), dtype=np.bool_)
    left = [_left_open(evidence, lesson, shut, kept) for lesson in doubts]
    return _closed(
        space, evidence, [*zip(sure, [None] * len(sure), strict=True), *zip(doubts, left, strict=True)], kept
    )


def _left_open(evidence: Evidence, lesson: Lesson, shut: Mask, kept: Mask) -> int | None:
    """The candidate that settles a doubt: as unlike the failed trial as there is one in all else that may be at fault.

    None where a trial of one is running, or nothing is left to try.
    """
    codes = evidence.codes
    if any(_is_about(lesson, evidence, row) for row in evidence.running):
        return None
    able = lesson.closes[(~shut & evidence.untried)[lesson.closes]]
    if not len(able):
        return None
    unlike = sum((codes.rows[able, column] != code).astype(np.int32) for column, code in lesson.unlike)
    # One that settles another doubt already is as good as any.
    score = unlike * 2 + kept[able]
    chosen = int(able[int(np.argmax(score))])
    kept[chosen] = True
    return chosen


def _is_about(lesson: Lesson, evidence: Evidence, row: Ints) -> bool:
    return bool((evidence.codes.rows[lesson.closes] == row).all(axis=1).any())


def _closed(
    space: SearchSpace, evidence: Evidence, lessons: Sequence[tuple[Lesson, int | None]], kept: Mask
) -> SearchSpace:
    why = space.shut.why.copy()
    sentences = list(space.shut.sentences)
    told: list[Exclusion] = []
    for lesson, left in lessons:
        closes = lesson.closes[why[lesson.closes] < 0]
        if lesson.doubtful:
            closes = closes[~kept[closes]]
        news = int(evidence.untried[closes].sum())
        if not news:
            continue
        sentence = lesson.sentence
        if left is not None:
            sentence += f"; {space.candidates[left].describe()} is left to show whether that is so"
        why[closes] = len(sentences)
        sentences.append(sentence)
        told.append(
            Exclusion(parameters=dict(lesson.parameters), reason=sentence, configurations=news, trial=lesson.trial)
        )
    closed = Closed(space.index, why, tuple(sentences))
    return replace(space, closed=closed, lessons=(*space.lessons, *told))
