"""Where each candidate stands, worked out once for a space and all that is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration
from haqa_operator.search.codes import Codes, Mask


@dataclass(frozen=True, eq=False)
class CandidateIndex:
    """What follows from the candidates alone, so that it outlives every change to what is closed.

    Attributes:
        bounds: As in `SearchSpace`.
    """

    candidates: tuple[Configuration, ...]
    bounds: Mapping[Configuration, float]

    @cached_property
    def positions(self) -> Mapping[Configuration, int]:
        return {candidate: position for position, candidate in enumerate(self.candidates)}

    @cached_property
    def codes(self) -> Codes:
        return Codes.of(self.candidates)

    @cached_property
    def best_scores(self) -> npt.NDArray[np.float64]:
        """The bound of each candidate, NaN where it has none."""
        none = float("nan")
        return np.array([self.bounds.get(candidate, none) for candidate in self.candidates], dtype=np.float64)


class Closed(Mapping[Configuration, str]):
    """Candidate -> why it is not to be proposed, kept by position: a lesson may close tens of thousands at once.

    Attributes:
        why: For each candidate the number of its sentence, below 0 where it is open.
    """

    def __init__(self, index: CandidateIndex, why: npt.NDArray[np.int32], sentences: tuple[str, ...]) -> None:
        self._index = index
        self.why = why
        self.sentences = sentences

    @classmethod
    def nothing(cls, index: CandidateIndex) -> Closed:
        return cls(index, np.full(len(index.candidates), -1, dtype=np.int32), ())

    @property
    def mask(self) -> Mask:
        return np.asarray(self.why >= 0)

    def closing_each(self, reasons: Mapping[Configuration, str]) -> Closed:
        """With these closed too, each for its own reason; what is no candidate is left out."""
        why, sentences = self.why.copy(), dict.fromkeys(reasons.values())
        numbers = {sentence: len(self.sentences) + number for number, sentence in enumerate(sentences)}
        for configuration, sentence in reasons.items():
            position = self._index.positions.get(configuration)
            if position is not None and why[position] < 0:
                why[position] = numbers[sentence]
        return Closed(self._index, why, (*self.sentences, *sentences))

    def __getitem__(self, configuration: Configuration) -> str:
        position = self._index.positions[configuration]
        if self.why[position] < 0:
            raise KeyError(configuration)
        return self.sentences[int(self.why[position])]

    def __iter__(self) -> Iterator[Configuration]:
        return (self._index.candidates[position] for position in np.flatnonzero(self.why >= 0))

    def __len__(self) -> int:
        return int((self.why >= 0).sum())
