"""How a runner step says that it failed: one exception that carries the contract's `Failure`.

Everything in the runner that knows why it cannot go on raises `TrialFailure` with a sentence for a person; `steps.py`
turns it into the step's report. Any other exception is a defect or a surprise, and becomes a report too, but by a
generic sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from haqa_contract.base import Contract


class FailureReason(StrEnum):
    """Every way a trial can end without a result."""

    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    MODEL_FETCH = "ModelFetch"
    QUANTIZATION_FAILED = "QuantizationFailed"
    QUANTIZATION_OOM = "QuantizationOOM"
    ENGINE_LOAD_FAILED = "EngineLoadFailed"
    ENGINE_OOM = "EngineOOM"
    ACCURACY_GATE = "AccuracyGate"
    LOAD_ERRORS = "LoadErrors"
    LOAD_GENERATOR_LIMIT = "LoadGeneratorLimit"
    METRICS_MISSING = "MetricsMissing"
    TIMEOUT = "Timeout"
    EVICTED = "Evicted"

    @property
    def transient(self) -> bool:
        """Whether another attempt at the same configuration could end differently."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        FailureReason.UNSCHEDULABLE,
        FailureReason.IMAGE_PULL,
        FailureReason.MODEL_FETCH,
        FailureReason.METRICS_MISSING,
        FailureReason.EVICTED,
    }
)


class Failure(Contract):
    """Why a trial has no result."""

    reason: FailureReason
    """The kind of failure; what to do about it depends on this"""
    message: str = Field(max_length=2000)
    """One or two sentences: what was wrong, with the value, and the remedy"""
    log_tail: tuple[str, ...] = ()
    """Last lines of the log that the message was read from"""
    of_configuration: bool = False
    """Whether the cause is the configuration's own, such as a kernel for its number format that the device lacks:
    another configuration may work"""


_MESSAGE_LIMIT = 2000
"""Characters of `Failure.message`; the report has to fit a 4 KiB termination message."""


class TrialFailure(Exception):
    """The trial cannot go on, for a known reason.

    `message` is one or two sentences: what was wrong, with the value, and the remedy. `log_tail` are the log lines it
    was read from, if any.
    """

    def __init__(self, reason: FailureReason, message: str, log_tail: Sequence[str] = ()) -> None:
        super().__init__(reason, message, tuple(log_tail))
        self.failure = Failure(reason=reason, message=shortened(message, _MESSAGE_LIMIT), log_tail=tuple(log_tail))

    @classmethod
    def of(cls, failure: Failure) -> TrialFailure:
        """Carries a failure that is known already, with all that it says."""
        error = cls(failure.reason, failure.message, failure.log_tail)
        error.failure = failure
        return error

    @property
    def reason(self) -> FailureReason:
        return self.failure.reason

    @property
    def message(self) -> str:
        return self.failure.message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def shortened(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, its middle left out: the beginning and the end of an error say most."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def cause_of(error: BaseException, limit: int = 400) -> str:
    """An exception as half a sentence on one line: `ValueError: columns are not divisible`."""
    words = " ".join(str(error).split())
    name = type(error).__name__
    return shortened(f"{name}: {words}" if words else name, limit)
