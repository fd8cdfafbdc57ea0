"""How far the artifact of a trial is: made by a Job that all pools of the tuning share. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.api import TrialStatus
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.tuning.results import machine_hours


@dataclass(frozen=True)
class Making:
    """An artifact that a trial waits for.

    Attributes:
        artifact: `artifact_name`.
        digest: Content address; None until it is made.
        seen: Its latest Job; None where there is none, as where an earlier trial has served the artifact.
        attempt: Number of that Job.
        asked_by: Name of the trial for which that Job was made.
        held_hours: Machine-hours that its Jobs have held.
    """

    artifact: str
    digest: str | None = None
    seen: TrialObservation | None = None
    attempt: int = 0
    asked_by: str = ""
    held_hours: float = 0.0


def held_hours(seen: TrialObservation) -> float:
    """Of one Job, which has one accelerator or, without one, its part of a machine."""
    return machine_hours(seen.held_s, 1)


def with_making(status: TrialStatus, making: Making, trial: str) -> TrialStatus:
    """The finished trial's status with what making its artifact took, where the Job was made for this trial."""
    if making.seen is None or making.asked_by != trial:
        return status
    report = making.seen.report
    seconds = dict(status.phase_seconds)
    for phase in report.phases if report else ():
        seconds[phase.name] = round(seconds.get(phase.name, 0.0) + phase.seconds, 3)
    reused = report.artifact.reused if report and report.artifact else status.artifact_reused
    return status.model_copy(
        update={
            "artifact_reused": reused,
            "phase_seconds": seconds,
            "machine_hours": status.machine_hours + making.held_hours,
            "warnings": (*(report.warnings if report else ()), *status.warnings),
        }
    )


def not_made(status: TrialStatus) -> TrialStatus:
    """Of a trial whose artifact could not be made: nothing was held for it but what `with_making` adds."""
    return status.model_copy(update={"machine_hours": 0.0, "phase_seconds": {}, "warnings": ()})
