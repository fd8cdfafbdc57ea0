"""What follows for candidates that differ from a trial in one direction only.

- More load (`SearchSpace.load_parameters`) never repairs a latency limit, nor anything else that went wrong.
- What takes at least as much memory in everything, and is otherwise the same, runs out of it too.
- What computes the same numbers misses the same accuracy limit.
- Quantizing knows nothing of the engine: the same artifact cannot be made, or takes as long, whatever would serve it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from haqa_contract import FailureReason, Scalar
from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import LATENCIES, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import Finding, find_baseline, judge_trial
from haqa_operator.search.codes import Ints
from haqa_operator.search.lessons.causes import Stage, cause_of
from haqa_operator.search.lessons.effects import FREE_OF_MEMORY, FREE_OF_NUMBERS, Shortage, need, shortage
from haqa_operator.search.lessons.evidence import Evidence
from haqa_operator.search.lessons.lesson import Lesson, failure_text, shown

_ARTIFACT = ("scheme", "algorithm", "group-size")


def implied(evidence: Evidence, constraints: Sequence[Constraint]) -> Iterator[Lesson]:
    """Lessons of every trial for itself."""
    baseline = find_baseline(evidence.finished)
    for trial in evidence.finished:
        findings = [f for f in judge_trial(constraints, trial, baseline) if not f.met and f.achieved]
        yield from _of_latency(evidence, trial, findings)
        yield from _of_accuracy(evidence, trial, findings)
        if trial.status.failure is not None:
            yield from _of_failure(evidence, trial, trial.status.failure.reason, trial.status.failure.message)


def _of_latency(evidence: Evidence, trial: Trial, findings: Sequence[Finding]) -> Iterator[Lesson]:
    """A limit that is broken by less than the noise says nothing: a little more load might meet it by chance."""
    broken = [
        f for f in findings if f.constraint.key.metric in LATENCIES and f.constraint.min is None and not f.marginal
    ]
    if broken and evidence.space.load_parameters:
        yield from _more_load(evidence, trial, f"has {broken[0].sentence}")


def _of_accuracy(evidence: Evidence, trial: Trial, findings: Sequence[Finding]) -> Iterator[Lesson]:
    broken = [f for f in findings if is_accuracy(f.constraint.metric)]
    if broken:
        free = FREE_OF_NUMBERS | evidence.space.load_parameters | evidence.space.accelerator_parameters
        sentence = f"trial {trial.number} computes the same numbers, and its {broken[0].sentence}"
        yield from _alike(evidence, trial, _columns(evidence, lambda name: name not in free), sentence)


def _of_failure(evidence: Evidence, trial: Trial, reason: FailureReason, message: str) -> Iterator[Lesson]:
    cause = cause_of(trial)
    ended = f"ended with {failure_text(trial)}"
    if cause.stage is Stage.QUANTIZE and (cause.teaches or reason is FailureReason.TIMEOUT):
        sentence = f"the same artifact is needed as in trial {trial.number}, which {ended}"
        yield from _alike(evidence, trial, _columns(evidence, lambda name: name in _ARTIFACT), sentence)
    elif reason is FailureReason.ENGINE_OOM and not _disturbed(message):
        yield from _out_of_memory(evidence, trial, shortage(message), ended)
    elif evidence.space.load_parameters and not reason.transient:
        yield from _more_load(evidence, trial, ended)


def _disturbed(message: str) -> bool:
    """Something else had taken the memory."""
    return "stop what else runs on it" in message


def _more_load(evidence: Evidence, trial: Trial, what: str) -> Iterator[Lesson]:
    load = evidence.space.load_parameters
    sentence = f"trial {trial.number} {what}, and this has at least its load"
    yield from _no_less(
        evidence, trial, lambda name, value: _number(value) if name in load else None, frozenset(), sentence
    )


def _out_of_memory(evidence: Evidence, trial: Trial, short_of: Shortage, ended: str) -> Iterator[Lesson]:
    load, accelerators = evidence.space.load_parameters, evidence.space.accelerator_parameters

    def takes(name: str, value: Scalar | None) -> float | None:
        if name in load:
            return _number(value)
        if name in accelerators:
            fewer = _number(value)
            return None if fewer is None else -fewer
        return need(name, value, short_of)

    sentence = f"trial {trial.number} {ended}, and this takes no less memory"
    yield from _no_less(evidence, trial, takes, FREE_OF_MEMORY, sentence)


def _number(value: Scalar | None) -> float | None:
    return None if value is None or isinstance(value, (bool, str)) else value


def _columns(evidence: Evidence, wanted: Callable[[str], bool]) -> list[int]:
    return [column for column, name in enumerate(evidence.codes.names) if wanted(name)]


def _alike(evidence: Evidence, trial: Trial, columns: Sequence[int], sentence: str) -> Iterator[Lesson]:
    """All candidates that have what the trial has in these columns."""
    codes, row = evidence.codes, evidence.row(trial)
    closes = _same(evidence, trial, columns)
    if len(closes):
        parameters = {codes.names[c]: codes.values[c][row[c]] for c in columns}
        yield Lesson({n: v for n, v in parameters.items() if v is not None}, sentence, trial.number, closes)


def _same(evidence: Evidence, trial: Trial, columns: Sequence[int]) -> Ints:
    """Positions of the candidates that have what the trial has in these columns."""
    position = evidence.position(trial)
    if position is not None:
        return evidence.codes.alike(position, columns)
    row, chosen = evidence.row(trial), list(columns)
    return np.flatnonzero((evidence.codes.rows[:, chosen] == row[chosen]).all(axis=1)).astype(np.int32)


Need = Callable[[str, "Scalar | None"], "float | None"]
"""A parameter's value -> how much of something it takes; None where the value has no place in an order."""


def _no_less(evidence: Evidence, trial: Trial, takes: Need, free: frozenset[str], sentence: str) -> Iterator[Lesson]:
    """Candidates that take no less than the trial in any parameter, and are the same where there is no order.

    Args:
        free: Parameters that may differ in any way.
    """
    codes, row = evidence.codes, evidence.row(trial)
    needs = {
        name: [takes(name, value) for value in values] for name, values in zip(codes.names, codes.values, strict=True)
    }
    ordered = {name for name, each in needs.items() if any(need is not None for need in each)} - free
    closes = _same(evidence, trial, _columns(evidence, lambda name: name not in ordered | free))
    own = trial.configuration.parameters
    parameters = {name: value for name, value in own.items() if name in codes.names and name not in ordered | free}
    for name in sorted(ordered):
        column = codes.names.index(name)
        mine = takes(name, own.get(name))
        more = np.array([need is not None and mine is not None and need > mine for need in needs[name]])
        no_less = more | (np.arange(len(more)) == row[column])
        fine = no_less[codes.rows[closes, column]]
        if name == "group-size":
            # Wider weights take more whatever their groups; of the same width, smaller groups have more scales.
            fine |= codes.rows[closes, codes.names.index("scheme")] != row[codes.names.index("scheme")]
        closes = closes[fine]
        if not no_less.all():
            parameters[name] = " or ".join(str(shown(codes.values[column][code])) for code in np.flatnonzero(no_less))
    if len(closes):
        yield Lesson(parameters, sentence, trial.number, closes)
