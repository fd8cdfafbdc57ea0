"""A rehearsal without a cluster: the search, the load test and the decision are real, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.cluster.rehearsal.accuracy import perplexity
from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.cluster.rehearsal.devices import Device
from tests.cluster.rehearsal.engine import Engine
from tests.cluster.rehearsal.failing import lines_of
from tests.cluster.rehearsal.load import Played, load_test
from tests.cluster.rehearsal.memory import OutOfMemory

from haqa_contract import AccuracyReport, Algorithm, Configuration, EngineLaunch, Estimate, Scheme, TrialReport
from haqa_contract.engine_log.diagnosis import diagnose
from haqa_contract.failures import TrialFailure
from haqa_operator.api import Trial, TrialStatus, TuningSpec
from haqa_operator.decision.results import Confirmation
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.launch import engine_launch
from haqa_operator.tuning.executor import Executor, OnProgress
from haqa_operator.tuning.requests import TrialPlaces, trial_request
from haqa_operator.tuning.results import trial_status
from haqa_runner.measure.accuracy import check_gates
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.progress import Phases

_PRESETS = {
    Scheme.BF16: "BF16",
    Scheme.FP8_DYNAMIC: "FP8_DYNAMIC",
    Scheme.W8A8_INT8: "W8A8",
    Scheme.W4A16: "W4A16",
}
_RECIPES = {
    Algorithm.NONE: (),
    Algorithm.RTN: ("QuantizationModifier",),
    Algorithm.GPTQ: ("GPTQModifier",),
    Algorithm.SMOOTHQUANT_GPTQ: ("SmoothQuantModifier", "GPTQModifier"),
}
_PLACES = TrialPlaces(store="/store", directory="/trial", cache="/cache", reference="/store/reference.npz")
_NAME = "rehearsed"


class PlayedHere(Played):
    """An engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def now(self) -> float:
        return self._engine.simulation.now

    async def metrics(self) -> str:
        return self._engine.metrics()

    async def open(self, streams: int, prompt: int, wanted: int) -> None:
        self._engine.open(streams, prompt, wanted)

    async def until(self, answered: int) -> list[dict[str, Any]]:
        ended: list[dict[str, Any]] = self._engine.until(answered)["ended"]
        return ended

    async def close(self) -> list[dict[str, Any]]:
        cancelled: list[dict[str, Any]] = self._engine.close()["cancelled"]
        return cancelled


class RehearsedExecutor(Executor):
    """Measures every trial on one kind of GPU."""

    def __init__(
        self, device: Device, accelerator: Accelerator, spec: TuningSpec, models: dict[str, Checkpoint], length: int
    ) -> None:
        self._device, self._accelerator, self._spec, self._models, self._length = (
            device,
            accelerator,
            spec,
            models,
            length,
        )

    def execute(self, trial: Trial, earlier: Sequence[Trial], on_progress: OnProgress) -> TrialStatus:
        launch = engine_launch(
            trial.configuration,
            self._accelerator,
            model_path="/model",
            served_model_name=_NAME,
            max_model_len=self._length,
        )
        report = self._report(trial, earlier, launch)
        count, workload = self._accelerator.count, self._spec.workload
        return trial_status(
            report, workload, cost_per_hour=None, accelerators=count, started=0.0, finished=600.0, attempts=1
        )

    def _report(self, trial: Trial, earlier: Sequence[Trial], launch: EngineLaunch) -> TrialReport:
        model, arguments = self._checkpoint(trial.configuration), Arguments.parse(launch.args, launch.env)
        report = TrialReport(trial=trial.name)
        try:
            engine = Engine(self._device, model, arguments, now=1e9)
        except OutOfMemory as error:
            return report.model_copy(update={"failure": diagnose("\n".join(lines_of(error)), 1, launch.args)})
        value = perplexity(model, arguments.cache_dtype)
        metrics = {"perplexity": Estimate(value=value, low=value, high=value, n=1)}
        report = report.model_copy(update={"accuracy": AccuracyReport(metrics=metrics, tokens=1)})
        request = trial_request(self._spec, trial, earlier, launch, _PLACES, accelerator=self._accelerator)
        test = load_test(PlayedHere(engine), Endpoint("http://here", _NAME), request, Phases())
        try:
            check_gates(request.gates, metrics)
            return report.model_copy(update={"load": asyncio.run(test.windows())})
        except TrialFailure as failure:
            return report.model_copy(update={"failure": failure.failure})

    def _checkpoint(self, configuration: Configuration) -> Checkpoint:
        made = self._models[_PRESETS[configuration.scheme]]
        return replace(made, recipe=_RECIPES[configuration.algorithm])

    def confirm(self, winner: Trial, baseline: Trial, on_progress: OnProgress) -> Confirmation | None:
        return None
