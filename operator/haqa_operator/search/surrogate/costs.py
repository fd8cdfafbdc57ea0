"""What a trial takes of the machine, from those that were made: an artifact that is there need not be made again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration, Scalar
from haqa_operator.api.trial import Trial

_QUANTIZING = ("quantize", "publish")


def hours_of(trials: Sequence[Trial], candidates: Sequence[Configuration]) -> npt.NDArray[np.float64]:
    """Machine-hours of a trial of each candidate; 1 for all while none is known."""
    measured = [trial for trial in trials if trial.succeeded and trial.status.machine_hours > 0]
    if not measured:
        return np.ones(len(candidates))
    quantizing = {_artifact(t.configuration): _share(t) * t.status.machine_hours for t in measured}
    made = {artifact for artifact in quantizing if artifact is not None}
    usual = float(np.mean([t.status.machine_hours * (1 - _share(t)) for t in measured]))
    making = [hours for artifact, hours in quantizing.items() if artifact is not None and hours > 0]
    extra = float(np.mean(making)) if making else 0.0
    artifacts = (_artifact(candidate) for candidate in candidates)
    return np.array(
        [usual + (extra if artifact is not None and artifact not in made else 0.0) for artifact in artifacts]
    )


def _share(trial: Trial) -> float:
    """Of the trial's time, what making the artifact took."""
    seconds = trial.status.phase_seconds
    total = sum(seconds.values())
    return sum(seconds.get(name, 0.0) for name in _QUANTIZING) / total if total > 0 else 0.0


def _artifact(configuration: Configuration) -> tuple[Scalar | None, ...] | None:
    """What is quantized; None for a checkpoint that is served as it is."""
    if not configuration.made:
        return None
    return (configuration.scheme.value, configuration.algorithm.value, configuration.group_size)
