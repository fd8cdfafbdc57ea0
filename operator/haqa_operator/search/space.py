"""The configurations that may be tried, and those that may not with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np

from haqa_contract import Configuration, Scalar
from haqa_operator.decision.results import Exclusion
from haqa_operator.search.candidate_index import CandidateIndex, Closed
from haqa_operator.search.codes import Mask

MOST_REMEMBERED = 100_000
"""Candidates of all spaces together that are kept as they are from one look to the next, at 0.8 kB each: some twenty
default spaces of accelerators (`remembered`)."""


@dataclass(frozen=True)
class SearchSpace:
    """An enumerated space: strategies pick from `candidates` and from nothing else.

    Attributes:
        baseline: Trial 0; not among the candidates.
        candidates: Feasible configurations, distinct, in an order that depends on the inputs alone.
        exclusions: What was ruled out, grouped by cause.
        baseline_problem: Why the baseline itself cannot run here, where that is known; the candidates may all the same.
        notes: What is worth knowing of schemes that can run, for example that one runs weight-only.
        bounds: Candidate -> the best score that the hardware allows it (`bounds.best_possible`), where one is known.
        speeds: Candidate -> how many times as fast as the baseline the prior expects it to be, before anything is
            measured; 1 where it says nothing.
        closed: Candidate that is not to be proposed -> why, for example that a trial has shown that it must fail. It
            stays among the candidates, whose numbers do not change while a tuning runs.
        lessons: What the trials so far rule out, grouped by cause; all of it is in `closed` too (`lessons.teaching`).
        load_parameters: Parameters that say how many requests are in flight: at otherwise equal settings, more of them
            never lower a latency. A replayed table has such; a tuning measures every level in each trial.
        accelerator_parameters: Parameters that say how many accelerators one replica has.
        variants: The model's published checkpoints, as configurations name them, those that cannot run among them.
        index: Where each candidate stands; follows from the candidates and is handed on to every space made of this.
    """

    baseline: Configuration
    candidates: tuple[Configuration, ...]
    exclusions: tuple[Exclusion, ...] = field(default=())
    baseline_problem: str | None = None
    notes: tuple[str, ...] = ()
    bounds: Mapping[Configuration, float] = field(default_factory=dict)
    speeds: Mapping[Configuration, float] = field(default_factory=dict)
    closed: Mapping[Configuration, str] = field(default_factory=dict)
    load_parameters: frozenset[str] = frozenset()
    accelerator_parameters: frozenset[str] = frozenset()
    lessons: tuple[Exclusion, ...] = ()
    variants: frozenset[str] = frozenset()
    index: CandidateIndex = field(default=CandidateIndex((), {}), repr=False, compare=False)

    def __post_init__(self) -> None:
        index = self.index
        if index.candidates is not self.candidates or index.bounds is not self.bounds:
            object.__setattr__(self, "index", CandidateIndex(self.candidates, self.bounds))

    def dimensions(self) -> dict[str, tuple[Scalar | None, ...]]:
        """Parameter name -> the values it takes among the candidates (None where a candidate leaves it out)."""
        names = dict.fromkeys(name for candidate in self.candidates for name in candidate.parameters)
        return {name: tuple(dict.fromkeys(c.parameters.get(name) for c in self.candidates)) for name in names}

    @property
    def ruled_out(self) -> tuple[Exclusion, ...]:
        """What is not tried, and why: what trials have shown, then what was known before any of them."""
        return (*self.lessons, *self.exclusions)

    def closing(self, reasons: Mapping[Configuration, str]) -> SearchSpace:
        """The space with more candidates closed; the first reason stays."""
        return replace(self, closed=self.shut.closing_each(reasons))

    @property
    def shut(self) -> Closed:
        """`closed`, by position."""
        if isinstance(self.closed, Closed):
            return self.closed
        return Closed.nothing(self.index).closing_each(self.closed)

    def open(self, tried: Collection[Configuration]) -> Iterator[Configuration]:
        """Candidates that may be proposed, in their order."""
        return compress(self.candidates, self.open_mask(tried).tolist())

    def open_mask(self, tried: Collection[Configuration]) -> Mask:
        """For each candidate, whether it may be proposed."""
        found = ~self.shut.mask
        positions = (self.index.positions.get(configuration) for configuration in tried)
        found[[position for position in positions if position is not None]] = False
        return found

    def best_left(self, tried: Collection[Configuration]) -> float | None:
        """The best score that any open candidate could get; None where one has no bound, or none is left."""
        if not self.bounds:
            return None
        left = self.index.best_scores[self.open_mask(tried)]
        return float(left.max()) if len(left) and not np.isnan(left).any() else None

    def __contains__(self, configuration: object) -> bool:
        return isinstance(configuration, Configuration) and configuration in self.index.positions


def size_of(space: SearchSpace) -> int:
    """Of what is remembered; a space without candidates is something too."""
    return 1 + len(space.candidates)
