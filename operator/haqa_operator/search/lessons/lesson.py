"""What one or more trials have shown about candidates that were not tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from haqa_contract import Scalar
from haqa_contract.failures import shortened
from haqa_operator.api.trial import Trial
from haqa_operator.search.codes import Ints

ENGINE_DEFAULT = "default"
"""How a parameter is shown that a configuration leaves to the engine."""

_QUOTED = 160


@dataclass(frozen=True, eq=False)
class Lesson:
    """A part of the space that is not worth a trial.

    Attributes:
        parameters: What explains it, for people: name -> value, or a bound such as `>= 32`.
        sentence: Why, with the trial.
        trial: Number of the trial that showed it.
        closes: Positions of the candidates that it is about, the tried ones among them.
        doubtful: Something else may be at fault: one candidate is left open that would show it.
        unlike: For a doubtful lesson, columns of everything else that may be at fault, with the trial's codes there.
    """

    parameters: Mapping[str, Scalar]
    sentence: str
    trial: int
    closes: Ints
    doubtful: bool = False
    unlike: tuple[tuple[int, int], ...] = field(default=())


def shown(value: Scalar | None) -> Scalar:
    return ENGINE_DEFAULT if value is None else value


def failure_text(trial: Trial) -> str:
    """`EngineOOM: the accelerator ran out of memory`: the reason and the message without its remedy."""
    failure = trial.status.failure
    if failure is None:
        return "failed without a reason"
    what = failure.message.removeprefix(f"{trial.configuration.describe()}: ").partition("; ")[0]
    return f"{failure.reason.value}: {shortened(what, _QUOTED)}"


def numbers_text(trials: tuple[Trial, ...]) -> str:
    """`trial 2`, `trials 2 and 5`, `trials 2, 5 and 3 more`."""
    numbers = [str(trial.number) for trial in trials]
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    if len(numbers) > 3:
        numbers = [*numbers[:2], f"{len(numbers) - 2} more"]
    return f"trials {', '.join(numbers[:-1])} and {numbers[-1]}"
