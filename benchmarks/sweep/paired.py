"""Trials measured against one engine that stays up, so that a machine whose speed drifts over hours favours nobody.

The baseline's engine is started once. Every configuration's windows alternate with windows of it, as those of a
confirmation do, and are written down as they would have been at the speed that the machine had in the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import geometric_mean

from haqa_contract import (
    ComparedRound,
    Latency,
    LoadReport,
    Phase,
    ServedEngine,
    TrialReport,
    TrialRequest,
    Window,
)
from haqa_contract.failures import TrialFailure
from haqa_operator.api import Trial
from haqa_operator.local.executor import LocalExecutor, LocalPool, Served, free_port
from haqa_operator.local.processes import Launcher
from haqa_operator.tuning.executor import OnProgress
from haqa_runner.serve.launching import Spawn

UNIT = "reference.json"
"""In the run's folder: output tokens/s of the baseline at each level, in the first windows of the sweep."""

Speeds = Mapping[int, float]


class PairedExecutor(LocalExecutor):
    """As on this machine, but for the load test.

    Args:
        standing: Ends the baseline's engine.
    """

    def __init__(self, standing: ExitStack, place: LocalPool, runner: Launcher, spawn: Spawn) -> None:
        super().__init__(place, runner, spawn)
        self._standing = standing
        self._baseline: Trial | None = None
        self._reference: ServedEngine | None = None

    def _request(self, trial: Trial, earlier: Sequence[Trial], folder: Path) -> TrialRequest:
        """The step that scores accuracy has a load test of its own; here it only warms the engine up."""
        self._baseline = next((one for one in (*earlier, trial) if one.is_baseline), None)
        request = super()._request(trial, earlier, folder)
        short = request.workload.model_copy(update={"repeats": 1, "duration_s": 1.0})
        return request.model_copy(update={"workload": short})

    def _measure(
        self, trial: Trial, served: Served, request: TrialRequest, deadline: float, on_progress: OnProgress
    ) -> TrialReport:
        scored = super()._measure(trial, served, request, deadline, on_progress)
        if scored.failure is not None:
            return scored
        reference = self._standing_engine(deadline, on_progress)
        folder, repeats = self._trial_folder(trial), self._place.spec.workload.repeats
        report = self._rounds(self._side(trial, served), reference, folder, repeats, deadline, on_progress)
        if report.failure is not None:
            raise TrialFailure(report.failure.reason, report.failure.message)
        windows = tuple(at_one_speed(one, self._unit(report.rounds)) for one in report.rounds)
        # What the load test would have taken without the reference's windows.
        alone = sum(one.winner.ended - one.winner.started for one in report.rounds)
        phases = (one for one in scored.phases if one.name != "load_test")
        spent = Phase(name="load_test", started=report.rounds[0].winner.started, seconds=alone)
        return scored.model_copy(update={"load": LoadReport(windows=windows), "phases": (*phases, spent)})

    def _standing_engine(self, deadline: float, on_progress: OnProgress) -> ServedEngine:
        """The baseline's, started when first asked for; its model is in the baseline's own folder."""
        if self._reference is None:
            assert self._baseline is not None
            launch = self._launch(self._baseline, self._trial_folder(self._baseline), free_port())
            folder = self._place.folder / "reference"
            served = self._standing.enter_context(self._engine(launch, folder, deadline, on_progress))
            self._reference = self._side(self._baseline, served)
        return self._reference

    def _unit(self, rounds: Sequence[ComparedRound]) -> Speeds:
        """The speed that all windows are written down at; kept, so that an interrupted sweep goes on with it."""
        file = self._place.folder / UNIT
        if not file.is_file():
            file.write_text(json.dumps(speeds_of([one.baseline for one in rounds])))
        return {int(level): float(speed) for level, speed in json.loads(file.read_text()).items()}


def speeds_of(windows: Sequence[Window]) -> Speeds:
    """Level -> output tokens/s."""
    levels = dict.fromkeys(window.concurrency for window in windows)
    return {
        level: geometric_mean([one.output_tokens_per_s for one in windows if one.concurrency == level])
        for level in levels
    }


def at_one_speed(measured: ComparedRound, unit: Speeds) -> Window:
    """The configuration's window as if the reference, measured beside it, had run at this speed."""
    factor = unit[measured.concurrency] / measured.baseline.output_tokens_per_s
    window = measured.winner
    rates = ("output_tokens_per_s", "total_tokens_per_s", "requests_per_s", "client_output_tokens_per_s")
    times = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
    return window.model_copy(
        update={
            **{name: getattr(window, name) * factor for name in rates},
            **{name: _scaled(getattr(window, name), 1 / factor) for name in times},
            "engine_mean_ms": {name: mean / factor for name, mean in window.engine_mean_ms.items()},
        }
    )


def _scaled(latency: Latency, factor: float) -> Latency:
    return Latency(**{name: value * factor for name, value in latency.model_dump().items()})
