"""The configurations that may be tried, and those that may not with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from haqa_contract import Configuration, Scalar
from haqa_operator.decision.results import Exclusion


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
        closed: Candidate that is not to be proposed -> why, for example that a trial has shown that it must fail. It
            stays among the candidates, whose numbers do not change while a tuning runs.
        load_parameters: Parameters that say how many requests are in flight: at otherwise equal settings, more of them
            never lower a latency. A replayed table has such; a tuning measures every level in each trial.
        accelerator_parameters: Parameters that say how many accelerators one replica has.
    """

    baseline: Configuration
    candidates: tuple[Configuration, ...]
    exclusions: tuple[Exclusion, ...] = field(default=())
    baseline_problem: str | None = None
    notes: tuple[str, ...] = ()
    bounds: Mapping[Configuration, float] = field(default_factory=dict)
    closed: Mapping[Configuration, str] = field(default_factory=dict)
    load_parameters: frozenset[str] = frozenset()
    accelerator_parameters: frozenset[str] = frozenset()

    def dimensions(self) -> dict[str, tuple[Scalar | None, ...]]:
        """Parameter name -> the values it takes among the candidates (None where a candidate leaves it out)."""
        names = dict.fromkeys(name for candidate in self.candidates for name in candidate.parameters)
        return {name: tuple(dict.fromkeys(c.parameters.get(name) for c in self.candidates)) for name in names}

    def closing(self, reasons: Mapping[Configuration, str]) -> SearchSpace:
        """The space with more candidates closed; the first reason stays."""
        return replace(self, closed={**reasons, **self.closed})

    def open(self, tried: Collection[Configuration]) -> Iterator[Configuration]:
        """Candidates that may be proposed, in their order."""
        return (c for c in self.candidates if c not in tried and c not in self.closed)

    def best_left(self, tried: Collection[Configuration]) -> float | None:
        """The best score that any open candidate could get; None where one has no bound, or none is left."""
        left = list(self.open(tried))
        known = [self.bounds[candidate] for candidate in left if candidate in self.bounds]
        return max(known) if known and len(known) == len(left) else None

    def __contains__(self, configuration: object) -> bool:
        return configuration in self.candidates
