"""What stays on a trial of the attempts that failed by no fault of its configuration. Pure."""

from __future__ import annotations

from haqa_operator.api import TrialPhase, TrialStatus
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.tuning.results import machine_hours


def attempt_noted(before: TrialStatus, seen: TrialObservation, attempt: int, accelerators: int) -> TrialStatus:
    """The status of a trial of which an attempt failed and the next one is due: what it cost and why it ended stay."""
    why = f"attempt {attempt}: {seen.message}"
    return before.model_copy(
        update={
            "phase": TrialPhase.PENDING,
            "attempts": attempt + 1,
            "warnings": (*before.warnings, why),
            "machine_hours": before.machine_hours + machine_hours(seen.held_s, accelerators),
        }
    )


def with_earlier_attempts(status: TrialStatus, before: TrialStatus) -> TrialStatus:
    """The finished trial's status with what `attempt_noted` has kept."""
    return status.model_copy(
        update={
            "warnings": (*before.warnings, *status.warnings),
            "machine_hours": before.machine_hours + status.machine_hours,
        }
    )
