"""Which parameters explain failures: the fewest, given everything that has worked.

- What also occurs in a trial that passed the stage is not at fault by itself. Where one parameter value is left, it is;
  where none is left, a pair of values that no trial has passed with together.
- Failures that are alike have one cause: what they have in common.
- Where the engine itself says what is at fault, that counts, unless it has worked in another trial.
- Where several explanations are left, the likeliest is taken (`likelihood`). That is doubtful, so one candidate with it
  is left open, as different in all else as there is; if it fails alike, the doubt is gone, and if it works, the next
  explanation has its turn.
- A number (a batch size, a level of load) is not taken for the cause unless the message mentions it: what is too much
  there depends on everything else, and `monotonicity` has what may be concluded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.search.codes import UNKNOWN, Mask
from haqa_operator.search.lessons.causes import Stage
from haqa_operator.search.lessons.evidence import Evidence, Failed
from haqa_operator.search.lessons.lesson import Lesson, failure_text, numbers_text
from haqa_operator.search.lessons.likelihood import may_be_blamed, unlikeliness
from haqa_operator.search.lessons.traits import Explanation, Trait, family, lesson_of, names, together


def attributed(evidence: Evidence) -> Iterator[Lesson]:
    """Lessons of the failed trials, each kind of failure for itself."""
    alike: dict[tuple[Stage, str], list[Failed]] = {}
    for failed in evidence.failed:
        if failed.cause.at_fault and (lesson := _as_the_engine_says(evidence, failed)) is not None:
            yield lesson
            yield from _of_the_same_kernels(evidence, failed)
        else:
            alike.setdefault((failed.cause.stage, failed.cause.key), []).append(failed)
    for group in alike.values():
        yield from _Attribution(evidence, group).lessons()


def _as_the_engine_says(evidence: Evidence, failed: Failed) -> Lesson | None:
    """None where what the engine blames has worked, is not among what is searched, or is only the defaults."""
    columns = [evidence.codes.names.index(name) for name in failed.cause.at_fault]
    traits = tuple(Trait(column, (int(failed.row[column]),)) for column in columns)
    worked = evidence.passed(failed.cause.stage)
    known = all(UNKNOWN not in trait.codes for trait in traits)
    if not known or not set(columns) & set(evidence.suspectable) or together(traits, worked).any():
        return None
    sentence = f"trial {failed.trial.number} ended with {failure_text(failed.trial)}"
    return lesson_of(evidence, failed, traits, sentence)


def _of_the_same_kernels(evidence: Evidence, failed: Failed) -> Iterator[Lesson]:
    """The engine blames the scheme: another one that needs the same kernels is in doubt, and sure once both failed."""
    column = evidence.codes.column("scheme")
    kin = family(evidence, failed) if column is not None and "scheme" in failed.cause.at_fault else None
    if kin is None or kin.among(evidence.passed(failed.cause.stage)).any():
        return
    both = [f for f in evidence.failed if kin.among(f.row[None])[0] and f.cause.at_fault == failed.cause.at_fault]
    if failed is not both[0]:
        return
    sure = len({int(f.row[kin.column]) for f in both}) > 1
    both_names = names(evidence, (kin,))
    sentence = f"{numbers_text(tuple(f.trial for f in both))} ended with {failure_text(failed.trial)}, "
    sentence += f"and {both_names} run on the same kernels"
    yield lesson_of(evidence, failed, (kin,), sentence, doubtful=not sure)


class _Attribution:
    """Failures that are alike, and what may be behind them."""

    def __init__(self, evidence: Evidence, failures: Sequence[Failed]) -> None:
        self.evidence = evidence
        self.failures = list(failures)
        self.stage = failures[0].cause.stage
        self.worked = evidence.passed(self.stage)

    def lessons(self) -> Iterator[Lesson]:
        """One for each cause, the one that explains most failures first."""
        left = self.failures
        while left:
            suspects = {id(failed): self._suspects(failed) for failed in left}
            support = {
                explanation: [failed for failed in left if explanation in suspects[id(failed)]]
                for failed in left
                for explanation in suspects[id(failed)]
            }
            blamed = [
                explanation
                for explanation in support
                if may_be_blamed(self.evidence, explanation, support[explanation][0])
            ]
            if not blamed:
                return
            best = min(
                blamed,
                key=lambda one: (-len(support[one]), unlikeliness(self.evidence, one, support[one][0]), one[0].column),
            )
            yield from self._conclusion(best, support[best], [suspects[id(failed)] for failed in support[best]])
            left = [failed for failed in left if failed not in support[best]]

    def _suspects(self, failed: Failed) -> set[Explanation]:
        """Single traits that have not worked; where each of them has, pairs of which that is true."""
        columns = self._columns(failed)
        same: Mask = np.equal(self.worked[:, columns], failed.row[columns])
        seen: Mask = np.any(same, axis=0)
        alone = [column for column, worked in zip(columns, seen.tolist(), strict=True) if not worked]
        singles: set[Explanation] = {(Trait(column, (int(failed.row[column]),)),) for column in alone}
        kin = family(self.evidence, failed) if self.stage is not Stage.QUANTIZE else None
        if kin is not None and kin.column in columns and not kin.among(self.worked).any():
            singles.add((kin,))
        if singles:
            return singles
        side_by_side = same.T.astype(np.int32) @ same.astype(np.int32)
        pairs = ((i, j) for i, j in combinations(range(len(columns)), 2) if not side_by_side[i, j])
        return {tuple(Trait(columns[k], (int(failed.row[columns[k]]),)) for k in pair) for pair in pairs}

    def _columns(self, failed: Failed) -> list[int]:
        """Parameters that can be behind a failure of this stage: quantizing knows no engine, and an engine hardly minds
        how its weights were rounded."""
        known = self.evidence.codes.names
        if self.stage is Stage.QUANTIZE:
            usable = [i for i in self.evidence.suspectable if known[i] in OF_WEIGHTS]
        elif self.stage is Stage.LOAD:
            usable = [i for i in self.evidence.suspectable if known[i] != "algorithm"]
        else:
            usable = list(self.evidence.suspectable)
        return [i for i in usable if failed.row[i] != UNKNOWN]

    def _conclusion(
        self, best: Explanation, failures: Sequence[Failed], suspects: Sequence[set[Explanation]]
    ) -> Iterator[Lesson]:
        """The lesson; where one scheme of several on the same kernels is sure, the others are in doubt."""
        own = {trait.column for trait in best}
        others = {trait.column for one in set.intersection(*suspects) if one != best for trait in one} - own
        unlike = tuple((column, int(failures[0].row[column])) for column in sorted(others))
        seen = tuple(Trait(t.column, tuple(sorted({int(f.row[t.column]) for f in failures}))) for t in best)
        several = len(failures) > 1
        settled = not self._can_be_told_apart(best, unlike) if several else not failures[0].cause.silent
        if not unlike or (several and settled):
            why = "nothing else can be at fault" if not unlike else f"{names(self.evidence, seen)} is at fault"
            yield self._told(seen, failures, why, doubtful=not settled and not several)
            if seen != best:
                yield self._told(
                    best, failures, f"{names(self.evidence, best)} runs on the same kernels", doubtful=True
                )
            return
        of_kin = tuple((t.column, t.codes[0]) for t, whole in zip(seen, best, strict=True) if t != whole)
        why = f"{names(self.evidence, best)} is most likely at fault"
        yield self._told(best, failures, why, unlike=(*unlike, *of_kin), doubtful=True)

    def _can_be_told_apart(self, best: Explanation, unlike: tuple[tuple[int, int], ...]) -> bool:
        """Whether there is an untried candidate with the explanation and with nothing else that may be at fault."""
        rows = self.evidence.codes.rows
        apart = together(best, rows) & self.evidence.untried
        for column, code in unlike:
            apart &= rows[:, column] != code
        return bool(apart.any())

    def _told(
        self,
        explanation: Explanation,
        failures: Sequence[Failed],
        why: str,
        *,
        doubtful: bool,
        unlike: tuple[tuple[int, int], ...] = (),
    ) -> Lesson:
        trials = tuple(failed.trial for failed in failures)
        alike = "ended alike with" if len(trials) > 1 else "ended with"
        sentence = f"{numbers_text(trials)} {alike} {failure_text(trials[0])}; {why}"
        return lesson_of(self.evidence, failures[0], explanation, sentence, unlike=unlike, doubtful=doubtful)
