"""What follows for candidates that differ from a trial in one direction only.

- More load (`SearchSpace.load_parameters`) never repairs a latency limit, nor anything else that went wrong.
- What takes at least as much memory in everything, and is otherwise the same, runs out of it too.
- What computes the same numbers misses the same accuracy limit.
- Quantizing knows nothing of the engine: the same artifact cannot be made, or takes as long, whatever would serve it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from haqa_contract import Failure, FailureReason, Scalar
from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import LATENCIES, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import Finding, References, judge_trial
from haqa_operator.search.codes import Ints, Mask
from haqa_operator.search.lessons.causes import Stage
from haqa_operator.search.lessons.effects import FREE_OF_MEMORY, FREE_OF_NUMBERS, Shortage, need, shortage
from haqa_operator.search.lessons.evidence import Evidence
from haqa_operator.search.lessons.lesson import Lesson, failure_text
from haqa_operator.search.lessons.orders import Order, of_values

_ONCE = 0.03
"""A latency this little above its limit, relative to it, might keep it in another trial: what starting an engine anew
changes (`search.minImprovementPercent`), which the interval of one trial does not know."""
_ROUGHLY = 0.2
"""The same for a trial whose load test ended early, perhaps after a short look."""
_OTHERS_MEMORY = "stop what else runs on it"
"""Of an EngineOOM that is another process's doing."""


class Implications:
    """Lessons of every trial for itself.

    Args:
        news: For each candidate, whether it is worth a lesson; whoever takes the lessons keeps it up to date, so that
            no sentence is made for what is closed already.
    """

    def __init__(self, evidence: Evidence, constraints: Sequence[Constraint], news: Mask) -> None:
        self._evidence = evidence
        self._of_latency = [c for c in constraints if c.key.metric in LATENCIES and c.min is None]
        self._of_accuracy = [c for c in constraints if is_accuracy(c.metric)]
        self._references = References.among(evidence.finished)
        self._news = news
        self._memory_orders = {short_of: self._memory_order(short_of) for short_of in Shortage}
        self._too_much = {short_of: np.zeros(len(news), dtype=np.bool_) for short_of in Shortage}

    def lessons(self) -> Iterator[Lesson]:
        for trial in self._evidence.finished:
            yield from self._latency(trial)
            yield from self._accuracy(trial)
            yield from self._failure(trial)

    def _latency(self, trial: Trial) -> Iterator[Lesson]:
        """A limit that is broken by less than the noise says nothing: a little more load might meet it by chance."""
        if trial.succeeded and self._evidence.space.load_parameters and self._of_latency:
            noise = _ROUGHLY if trial.status.ended_early else _ONCE
            broken = self._broken(self._of_latency, trial)
            clearly = next((f for f in broken if not f.marginal and f.excess > noise), None)
            if clearly is not None and len(closes := self._new(self._load.no_less(trial))):
                yield self._more_load(trial, closes, clearly.sentence)

    def _accuracy(self, trial: Trial) -> Iterator[Lesson]:
        broken = self._broken(self._of_accuracy, trial)
        if broken and len(closes := self._alike(trial, self._numbers)):
            sentence = f"trial {trial.number} computes the same numbers, and its {broken[0].sentence}"
            yield Lesson(of_values(self._evidence, trial, self._numbers), sentence, trial.number, closes)

    def _failure(self, trial: Trial) -> Iterator[Lesson]:
        failure = trial.status.failure
        if failure is None:
            return
        cause, memory = self._evidence.causes[trial.name], failure.reason is FailureReason.ENGINE_OOM
        if cause.stage is Stage.QUANTIZE and (cause.teaches or failure.reason is FailureReason.TIMEOUT):
            if len(closes := self._alike(trial, self._artifact)):
                sentence = f"it needs the artifact of trial {trial.number}, which ended with {failure_text(trial)}"
                yield Lesson(of_values(self._evidence, trial, self._artifact), sentence, trial.number, closes)
        elif memory and _OTHERS_MEMORY not in failure.message:
            yield from self._memory(trial, failure)
        elif not memory and not failure.reason.transient and self._evidence.space.load_parameters:
            closes = self._new(self._load.no_less(trial))
            yield from [self._more_load(trial, closes, failure_text(trial))] if len(closes) else []

    def _memory(self, trial: Trial, failure: Failure) -> Iterator[Lesson]:
        short_of = shortage(failure.message)
        order, too_much = self._memory_orders[short_of], self._too_much[short_of]
        position = self._evidence.position(trial)
        if position is not None and too_much[position]:
            return  # what takes no less than this trial takes no less than the earlier one either
        no_less = order.no_less(trial)
        too_much[no_less] = True
        if len(closes := self._new(no_less)):
            sentence = f"it takes no less memory than trial {trial.number}, which ended with {failure_text(trial)}"
            yield Lesson(order.parameters(trial), sentence, trial.number, closes)

    def _more_load(self, trial: Trial, closes: Ints, what: str) -> Lesson:
        sentence = f"trial {trial.number}, with no more load: {what}"
        return Lesson(self._load.parameters(trial), sentence, trial.number, closes)

    def _broken(self, constraints: Sequence[Constraint], trial: Trial) -> list[Finding]:
        """Findings that were judged and are not met."""
        return [f for f in judge_trial(constraints, trial, self._references) if not f.met and f.judged]

    def _alike(self, trial: Trial, columns: Sequence[int]) -> Ints:
        return self._new(self._evidence.alike(trial, columns))

    def _new(self, positions: Ints) -> Ints:
        return positions[self._news[positions]]

    @cached_property
    def _load(self) -> Order:
        load = self._evidence.space.load_parameters
        return Order(self._evidence, lambda name, value: _number(value) if name in load else None)

    def _memory_order(self, short_of: Shortage) -> Order:
        load, accelerators = self._evidence.space.load_parameters, self._evidence.space.accelerator_parameters

        def takes(name: str, value: Scalar | None) -> float | None:
            if name in load | accelerators:
                amount = _number(value)
                return amount if amount is None or name in load else -amount
            return need(name, value, short_of)

        return Order(self._evidence, takes, FREE_OF_MEMORY)

    @cached_property
    def _numbers(self) -> list[int]:
        """Columns that decide which numbers are computed."""
        space = self._evidence.space
        free = FREE_OF_NUMBERS | space.load_parameters | space.accelerator_parameters
        return [column for column, name in enumerate(self._evidence.codes.names) if name not in free]

    @cached_property
    def _artifact(self) -> list[int]:
        return [column for column, name in enumerate(self._evidence.codes.names) if name in OF_WEIGHTS]


def _number(value: Scalar | None) -> float | None:
    return None if value is None or isinstance(value, (bool, str)) else value
