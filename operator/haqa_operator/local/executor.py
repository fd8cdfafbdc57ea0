"""Runs trials on this machine: quantize, serve and measure as processes, one trial at a time.

The same requests, arguments and reports as in a cluster; only where the processes live differs.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from haqa_contract import (
    AdapterReport,
    CompareReport,
    CompareRequest,
    Configuration,
    EngineLaunch,
    Failure,
    FailureReason,
    Phase,
    Progress,
    ServedEngine,
    TrialReport,
    TrialRequest,
)
from haqa_contract.failures import TrialFailure
from haqa_operator.api import NodePool, Trial, TrialPhase, TrialStatus, TuningSpec
from haqa_operator.api.metrics import MetricKey
from haqa_operator.decision.results import Confirmation
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.local.processes import Launcher, StepTimeout, run_step
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.adapters import ServedAdapters
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.model_length import MaxModelLen
from haqa_operator.serving.startup import StartupLimit
from haqa_operator.serving.versions import Version
from haqa_operator.tuning.executor import Executor, OnProgress, TrialProgress
from haqa_operator.tuning.requests import NOTHING_SEEN, Digests, TrialPlaces, trial_request
from haqa_operator.tuning.results import trial_status
from haqa_runner.progress import Phases
from haqa_runner.serve.engine import EngineProcess
from haqa_runner.serve.launching import Spawn

LOCAL_ATTEMPTS = 2
"""For failures that another attempt may not have; the attempts count as one trial."""

_CONFIRMED = ("throughput", "throughputPerCost")
"""Objectives that a ratio of tokens/s decides; cost is the same for both sides."""

_DYING_S = 5.0
_BY_A_BROKEN_ENGINE = (FailureReason.LOAD_ERRORS, FailureReason.ENGINE_LOAD_FAILED, FailureReason.METRICS_MISSING)

_PHASES = {
    "fetch": TrialPhase.QUANTIZING,
    "quantize": TrialPhase.QUANTIZING,
    "publish": TrialPhase.QUANTIZING,
    "load": TrialPhase.LOADING,
    "sanity": TrialPhase.EVALUATING,
    "accuracy": TrialPhase.EVALUATING,
}


@dataclass(frozen=True)
class LocalPool:
    """A pool on this machine, and where its files go.

    Attributes:
        folder: The run's folder; trials get one each below it.
        store: Artifact store, shared by the pools.
        cache: Folder for fetched models.
        profile: The model, by which engines have time to load it.
        max_model_len: Longest request that the engines serve.
        adapters: What is served beside the model.
        seen: Which files were looked at.
        expected_rate: Output tokens/s that an engine may reach, by its configuration and the trials so far.
        engine_version: Of the installed vLLM; None = the release that HAQA is made for.
    """

    spec: TuningSpec
    pool: NodePool
    accelerator: Accelerator
    folder: Path
    store: str
    cache: Path
    profile: ModelProfile
    max_model_len: MaxModelLen
    adapters: tuple[AdapterReport, ...] = ()
    seen: Digests = NOTHING_SEEN
    expected_rate: Callable[[Configuration, Sequence[Trial]], float | None] = lambda *_: None
    engine_version: Version | None = None

    def served_adapters(self, folder: Path) -> ServedAdapters | None:
        """Those of a trial, by its folder."""
        return ServedAdapters.of(self.adapters, os.fspath(folder / "adapters"))


class LocalExecutor(Executor):
    """One trial at a time with the runner's and the engine's environments of this machine."""

    def __init__(
        self, place: LocalPool, runner: Launcher, spawn: Spawn, clock: Callable[[], float] = time.time
    ) -> None:
        self._place = place
        self._runner = runner
        self._spawn = spawn
        self._clock = clock

    def execute(self, trial: Trial, earlier: Sequence[Trial], on_progress: OnProgress) -> TrialStatus:
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            report = self._attempt(trial, earlier, on_progress)
            if report.failure is None or not report.failure.reason.transient or attempt == LOCAL_ATTEMPTS:
                break
        return trial_status(
            report,
            self._place.spec.workload,
            cost_per_hour=self._place.pool.cost_per_hour,
            accelerators=self._place.accelerator.count,
            started=started,
            finished=self._clock(),
            attempts=attempt,
            served=not trial.is_reference,
        )

    @property
    def side_by_side(self) -> bool:
        """Whether two engines at a time can be compared: a GPU is filled by one engine's cache."""
        return self._place.accelerator.is_cpu and self._place.spec.objectives[0].metric in _CONFIRMED

    def confirm(self, winner: Trial, baseline: Trial, on_progress: OnProgress) -> Confirmation | None:
        """Both engines side by side, where they can be."""
        if not self.side_by_side:
            return None
        objective = self._place.spec.objectives[0]
        folder = self._place.folder / "confirmation"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = self._clock()
        try:
            report = self._compare(winner, baseline, folder, on_progress)
        except TrialFailure as failure:
            on_progress(TrialProgress(TrialPhase.FAILED, 1, failure.message))
            return None
        if report.ratio is None or (objective.concurrency is None and not report.rounds):
            on_progress(TrialProgress(TrialPhase.FAILED, 1, report.failure.message if report.failure else "no windows"))
            return None
        return Confirmation(
            winner=winner.name,
            baseline=baseline.name,
            metric=str(MetricKey("throughput", None, objective.concurrency)),
            ratio=report.ratio if objective.concurrency is None else report.ratio_at(objective.concurrency),
            winner_values=report.winner_values,
            baseline_values=report.baseline_values,
            seconds=self._clock() - began,
        )

    def close(self) -> None:
        self._runner.close()

    def _attempt(self, trial: Trial, earlier: Sequence[Trial], on_progress: OnProgress) -> TrialReport:
        folder = self._trial_folder(trial)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        request = self._request(trial, earlier, folder)
        (folder / "request.json").write_text(request.model_dump_json(indent=1))
        deadline = time.monotonic() + self._place.spec.budget.trial_timeout / timedelta(seconds=1)
        report = self._step("reference" if trial.is_reference else "quantize", request, deadline, on_progress)
        if report.failure is not None or trial.is_reference:
            return report
        try:
            with self._engine(request.engine, folder, deadline, on_progress) as served:
                loaded = TrialReport(trial=trial.name, engine=served.engine.report, phases=served.phases)
                measured = self._measure(trial, served, request, deadline, on_progress)
                if (died := _death(served.engine, measured.failure)) is not None:
                    # The load test sees refused connections; the engine's log says why.
                    measured = measured.model_copy(update={"failure": died})
        except TrialFailure as failure:
            return report.merged(TrialReport(trial=trial.name, failure=failure.failure))
        return report.merged(loaded).merged(measured)

    def _measure(
        self, trial: Trial, served: Served, request: TrialRequest, deadline: float, on_progress: OnProgress
    ) -> TrialReport:
        """What is found out about the trial's engine while it serves. Never raises but TrialFailure."""
        return self._step("measure", request, deadline, on_progress)

    def _compare(self, winner: Trial, baseline: Trial, folder: Path, on_progress: OnProgress) -> CompareReport:
        """Raises TrialFailure if one of the engines does not come up."""
        deadline = time.monotonic() + self._place.spec.budget.trial_timeout / timedelta(seconds=1)
        with ExitStack() as stack:
            engines = []
            for trial in (winner, baseline):
                launch = self._launch(trial, self._trial_folder(trial), free_port())
                served = stack.enter_context(self._engine(launch, folder / trial.name, deadline, on_progress))
                engines.append(self._side(trial, served))
            rounds = max(2, self._place.spec.confirmation.rounds)
            return self._rounds(engines[0], engines[1], folder, rounds, deadline, on_progress)

    def _side(self, trial: Trial, served: Served) -> ServedEngine:
        """A trial's engine, as one of two that are compared."""
        return ServedEngine(
            name=trial.name,
            base_url=served.engine.base_url,
            served_model_name=trial.tuning,
            model=os.fspath(self._trial_folder(trial) / "model"),
            adapters=tuple(adapter.name for adapter in self._place.adapters),
        )

    def _rounds(
        self,
        winner: ServedEngine,
        baseline: ServedEngine,
        folder: Path,
        rounds: int,
        deadline: float,
        on_progress: OnProgress,
    ) -> CompareReport:
        """Windows of two engines in turn. Raises TrialFailure where there is no report."""
        left_s = deadline - time.monotonic()
        spec = self._place.spec
        request = CompareRequest(
            winner=winner,
            baseline=baseline,
            workload=spec.workload,
            rounds=rounds,
            least_ratio=1 + spec.search.min_improvement_percent / 100,
            decisive_level=spec.objectives[0].concurrency,
            directory=os.fspath(folder),
            timeout_s=max(1.0, left_s),
        )
        file = folder / "compare-request.json"
        file.write_text(request.model_dump_json(indent=1))
        argv = ["haqa_runner", "compare", "--request", os.fspath(file)]
        try:
            run_step(self._runner, argv, step_environment(), folder, "compare.log", left_s, _shown(on_progress))
            return CompareReport.model_validate_json((folder / "compare.json").read_bytes())
        except (StepTimeout, OSError, ValidationError) as error:
            raise TrialFailure(FailureReason.METRICS_MISSING, f"no comparison: {error}") from error

    def _step(self, step: str, request: TrialRequest, deadline: float, on_progress: OnProgress) -> TrialReport:
        """Runs one runner step and reads what it left; never raises."""
        folder = Path(request.directory)
        request_file = folder / "request.json"
        argv = ["haqa_runner", step, "--request", os.fspath(request_file)]
        left_s = deadline - time.monotonic()
        try:
            code = run_step(self._runner, argv, step_environment(), folder, f"{step}.log", left_s, _shown(on_progress))
        except StepTimeout as timeout:
            limit_s = self._place.spec.budget.trial_timeout / timedelta(seconds=1)
            message = f"{timeout}, at the end of budget.trialTimeout ({limit_s:.0f} s); raise it or measure less"
            return _failed(request.trial, FailureReason.TIMEOUT, message)
        try:
            return TrialReport.model_validate_json((folder / f"{step}.json").read_bytes())
        except (OSError, ValidationError):
            reason = FailureReason.QUANTIZATION_FAILED if step == "quantize" else FailureReason.LOAD_ERRORS
            message = f"{step} ended with exit code {code} and left no report; its log is {folder / f'{step}.log'}"
            return _failed(request.trial, reason, message)

    @contextmanager
    def _engine(self, launch: EngineLaunch, folder: Path, deadline: float, on_progress: OnProgress) -> Iterator[Served]:
        """The engine, serving inside the block. Raises TrialFailure if it does not come up in the time that is left."""
        left_s = max(1.0, deadline - time.monotonic())
        limited = launch.model_copy(update={"startup_timeout_s": min(launch.startup_timeout_s, left_s)})

        def loading(phase: str, done: float, message: str = "") -> None:
            on_progress(TrialProgress(TrialPhase.LOADING, done, message))

        phases = Phases()
        engine = EngineProcess(limited, folder, self._spawn, loading)
        with ExitStack() as stack:
            with phases.measure("load"):
                stack.enter_context(engine)
            yield Served(engine, phases.so_far)

    def _request(self, trial: Trial, earlier: Sequence[Trial], folder: Path) -> TrialRequest:
        place = self._place
        launch = self._launch(trial, folder, free_port())
        places = TrialPlaces(
            store=place.store,
            directory=os.fspath(folder),
            cache=os.fspath(place.cache),
            reference=os.fspath(place.folder / "reference.npz"),
        )
        return trial_request(
            place.spec,
            trial,
            earlier,
            launch,
            places,
            place.pool.cost_per_hour,
            place.seen,
            place.expected_rate(trial.configuration, earlier),
            accelerator=place.accelerator,
        )

    def _launch(self, trial: Trial, folder: Path, port: int) -> EngineLaunch:
        place = self._place
        return engine_launch(
            trial.configuration,
            place.accelerator,
            model_path=os.fspath(folder / "model"),
            served_model_name=trial.tuning,
            port=port,
            pool_env=place.pool.env,
            max_model_len=place.max_model_len,
            trust_remote_code=place.spec.model.trust_remote_code,
            seed=place.spec.search.seed,
            startup_timeout_s=StartupLimit().seconds(place.profile.loaded_bytes(trial.configuration)),
            adapters=place.served_adapters(folder),
            engine_version=place.engine_version,
        )

    def _trial_folder(self, trial: Trial) -> Path:
        return self._place.folder / "trials" / trial.name


@dataclass(frozen=True)
class Served:
    """An engine that serves, and how long that took it."""

    engine: EngineProcess
    phases: tuple[Phase, ...]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def step_environment() -> dict[str, str]:
    """The runner's environment: this process's, without what belongs to its own Python."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in left_out}


def _shown(on_progress: OnProgress) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        phase = _PHASES.get(progress.phase, TrialPhase.MEASURING)
        on_progress(TrialProgress(phase, progress.done, f"{progress.phase}: {progress.message}"))

    return show


def _death(engine: EngineProcess, measured: Failure | None) -> Failure | None:
    """Why the engine ended, where that is why measuring failed; a client notices seconds before the process is gone."""
    if measured is None:
        return None
    return engine.failure(_DYING_S if measured.reason in _BY_A_BROKEN_ENGINE else 0.0)


def _failed(trial: str, reason: FailureReason, message: str) -> TrialReport:
    return TrialReport(trial=trial, failure=Failure(reason=reason, message=message))
