"""The step `serve`: one engine, until somebody stops it.

In a cluster the official vLLM image runs by itself and this step is not needed; on a machine it gives the same start
checks and diagnosis to a hand-started engine. The report is there as soon as the engine serves.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from haqa_contract import TrialReport, TrialRequest
from haqa_contract.failures import TrialFailure
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.serve.engine import EngineProcess
from haqa_runner.serve.launching import guarded
from haqa_runner.steps import Interrupted, Step, write_report

PYTHON_VARIABLE = "HAQA_SERVING_PYTHON"
"""Interpreter of the environment that has vLLM; by default the one that runs this."""
_WATCH_S = 0.5


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """Serves until SIGTERM or SIGINT, which is the good end.

    Raises:
        TrialFailure: the engine did not start, or ended by itself.
    """
    python = Path(os.environ.get(PYTHON_VARIABLE, sys.executable))
    engine = EngineProcess(request.engine, Path(request.directory), guarded(python), progress)
    with phases.measure("load"):
        engine.start()
    report = TrialReport(trial=request.trial, engine=engine.report)
    try:
        write_report(request, Step.SERVE, report.model_copy(update={"phases": phases.so_far}))
        while (failure := engine.failure()) is None:
            time.sleep(_WATCH_S)
    except Interrupted:
        return report
    finally:
        engine.stop()
    raise TrialFailure.of(failure)
