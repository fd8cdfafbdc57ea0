"""What trials and candidates may have in common, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from haqa_contract import Scheme
from haqa_operator.search.codes import UNKNOWN, Ints, Mask
from haqa_operator.search.lessons.evidence import Evidence, Failed
from haqa_operator.search.lessons.lesson import Lesson, shown

SAME_KERNELS: tuple[frozenset[str], ...] = (frozenset({Scheme.W4A16.value, Scheme.W4A16_ASYM.value}),)
"""Schemes that vLLM serves with the same kernels (`CompressedTensorsWNA16`: with or without zero points)."""


@dataclass(frozen=True)
class Trait:
    """A value of one parameter, or one of several values that are alike."""

    column: int
    codes: tuple[int, ...]

    def among(self, rows: Ints) -> Mask:
        return np.isin(rows[:, self.column], self.codes)


Explanation = tuple[Trait, ...]
"""Traits that are at fault together."""


def together(explanation: Explanation, rows: Ints) -> Mask:
    found = np.ones(len(rows), dtype=np.bool_)
    for trait in explanation:
        found &= trait.among(rows)
    return found


def family(evidence: Evidence, failed: Failed) -> Trait | None:
    """The schemes among the candidates that run on the same kernels as this one, if there are others."""
    column = evidence.codes.column("scheme")
    if column is None or failed.row[column] == UNKNOWN:
        return None
    values = evidence.codes.values[column]
    kin = next((kin for kin in SAME_KERNELS if values[failed.row[column]] in kin), frozenset())
    codes = tuple(code for code, value in enumerate(values) if value in kin)
    return Trait(column, codes) if len(codes) > 1 else None


def lesson_of(
    evidence: Evidence,
    failed: Failed,
    explanation: Explanation,
    sentence: str,
    *,
    unlike: tuple[tuple[int, int], ...] = (),
    doubtful: bool = False,
) -> Lesson:
    codes = evidence.codes
    parameters = {
        codes.names[trait.column]: _value(evidence, trait) for trait in sorted(explanation, key=lambda t: t.column)
    }
    closes = np.flatnonzero(together(explanation, codes.rows)).astype(np.int32)
    return Lesson(parameters, sentence, failed.trial.number, closes, doubtful, unlike)


def names(evidence: Evidence, explanation: Explanation) -> str:
    return " with ".join(f"{evidence.codes.names[t.column]} {_value(evidence, t)}" for t in explanation)


def _value(evidence: Evidence, trait: Trait) -> bool | int | float | str:
    values = [shown(evidence.codes.values[trait.column][code]) for code in trait.codes]
    return values[0] if len(values) == 1 else " or ".join(map(str, values))
