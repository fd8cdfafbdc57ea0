"""Tables of real measurements, cut into problems that a search can be judged on.

A problem is what one pool of one tuning would search: one kind of accelerator, one model, one length of prompts and
answers. Since its table holds every result, what a search reached can be compared with the best there is.

Half of the problems are for development: strategies may be tuned on them. The other half is held out for figures that
are published. The halves follow from a hash of the family (accelerator and model), since problems of one family differ
in the length of the texts alone and resemble each other.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from haqa_contract import Configuration
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.observations import Observation
from haqa_operator.replay.executor import SOURCE
from haqa_operator.replay.tables.table import Table
from haqa_operator.replay.truth import truth_of
from haqa_operator.search.space import SearchSpace


class Half(StrEnum):
    DEVELOPMENT = "development"
    HELD_OUT = "held-out"


@dataclass(frozen=True)
class Problem:
    """One table with an objective and limits.

    Attributes:
        name: Unique among all problems: `argonne/Nvidia A100 GPU/Qwen/Qwen2-7B/512`.
        family: What problems that resemble each other share.
        table: Every result, the baseline's among them.
        history: Trials of other tunings, each with its baseline, for strategies that start from them.
    """

    name: str
    family: str
    table: Table
    objective: Objective
    constraints: tuple[Constraint, ...] = ()
    history: tuple[tuple[Trial, ...], ...] = ()

    @property
    def source(self) -> str:
        """The first part of the name: who measured."""
        return self.name.partition("/")[0]

    @property
    def half(self) -> Half:
        even = hashlib.sha256(self.family.encode()).digest()[0] % 2 == 0
        return Half.DEVELOPMENT if even else Half.HELD_OUT

    @property
    def baseline(self) -> Configuration:
        return self.table.baseline

    @cached_property
    def space(self) -> SearchSpace:
        return self.table.space

    @cached_property
    def spec(self) -> TuningSpec:
        """What a tuning would say: objective and limits; everything else as by default."""
        model = {"uri": "file:///model"}
        spec = TuningSpec.model_validate({"model": model, "nodePools": [{"name": SOURCE}]})
        return spec.model_copy(update={"objective": self.objective, "constraints": self.constraints})

    @cached_property
    def truth(self) -> dict[Configuration, Observation]:
        """What a trial of each configuration shows when nothing disturbs it."""
        return truth_of(self.table, [self.objective], self.constraints)

    @cached_property
    def best(self) -> Observation | None:
        """The best configuration that keeps every limit; None when none does."""
        kept = [seen for seen in self.truth.values() if seen.score is not None and not seen.violation]
        return max(kept, key=lambda seen: seen.score or 0.0) if kept else None

    def share(self, score: float | None) -> float:
        """Share of the best feasible value, 0 to 1; 0 where nothing feasible was found."""
        if score is None or self.best is None or self.best.score is None:
            return 0.0
        return score / self.best.score if self.objective.maximize else self.best.score / score

    def reached(self, configuration: Configuration) -> float:
        """Share of the best feasible value that a configuration has; 0 where it fails or breaks a limit."""
        seen = self.truth[configuration]
        return 0.0 if seen.violation else self.share(seen.score)

    def reached_if(self, percent: float) -> float:
        """The share that so many percent of the baseline's value would be; 0 without a baseline."""
        score = self.truth[self.baseline].score
        if score is None:
            return 0.0
        return self.share(score * percent / 100 if self.objective.maximize else score * 100 / percent)

    def regret(self, score: float | None) -> float:
        """How far a value is from the best feasible one, on a scale from 0 (the best) to 1 (the worst feasible one, or
        none at all)."""
        kept = [seen.score for seen in self.truth.values() if seen.score is not None and not seen.violation]
        if score is None or not kept:
            return 1.0
        best, worst = max(kept), min(kept)
        return (best - score) / (best - worst) if best > worst else 0.0

    def room(self, configuration: Configuration) -> float:
        """Logarithm of the room to the tightest limit; below 0 it is broken. Infinite without limits."""
        truth = self.truth[configuration]
        rooms = []
        for limit in self.constraints:
            found = truth.trial.status.metrics.get(str(limit.key))
            if found is None or found.value <= 0:
                continue
            if limit.max is not None and limit.max > 0:
                rooms.append(math.log(limit.max / found.value))
            if limit.min is not None and limit.min > 0:
                rooms.append(math.log(found.value / limit.min))
            if limit.max_degradation_percent is not None:
                rooms.append(-math.log1p(truth.violation) if truth.violation else math.inf)
        return min(rooms, default=math.inf)
