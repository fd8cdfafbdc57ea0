"""The step `verify`: the trial's load in short, against an engine that somebody else has started.

Of the model only the small files are brought, for its tokenizer: the engine has the weights.
"""

from __future__ import annotations

from pathlib import Path

from haqa_contract import TrialReport, TrialRequest
from haqa_runner.measure.step import measured
from haqa_runner.models.fetching import look_at_model
from haqa_runner.progress import Phases, ProgressSink


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """Measures the engine at the host and port of `request.engine`.

    Raises:
        TrialFailure: the engine or the model cannot be reached.
    """
    with phases.measure("fetch"):
        looking = look_at_model(request.model, Path(request.cache), progress)
    with looking as (_, folder):
        return measured(request, folder, phases, progress)
