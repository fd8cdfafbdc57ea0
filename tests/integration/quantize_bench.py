"""Quantize steps with the real llm-compressor, as trials run them: requests, processes forked for them, reports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from haqa_contract import (
    PROGRESS_PREFIX,
    Algorithm,
    ArtifactReport,
    Calibration,
    Configuration,
    EngineLaunch,
    Failure,
    ModelSource,
    Progress,
    Scheme,
    TrialReport,
    TrialRequest,
)
from haqa_runner.prefork import PreforkedLauncher, PreforkedProcess

LIMIT_S = 120.0


@dataclass
class Bench:
    """Runs quantize steps that share a store; each trial has a folder of its own."""

    launcher: PreforkedLauncher
    folder: Path
    model: Path
    trials: int = 0
    store: Path = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.folder / "store"

    def request(
        self, scheme: Scheme | str, algorithm: Algorithm | str, group_size: int | None = None, **changes: Any
    ) -> TrialRequest:
        self.trials += 1
        engine = changes.pop("settings", {})
        return TrialRequest(
            tuning="test",
            trial=f"trial-{self.trials}",
            pool="here",
            model=ModelSource(uri=f"file://{self.model}"),
            configuration=Configuration.of(scheme, algorithm, group_size, **engine),
            calibration=Calibration(samples=8, sequence_length=64),
            engine=EngineLaunch(args=(), served_model_name="tiny", port=8000),
            store=str(self.store),
            directory=str(self.folder / f"trial-{self.trials}"),
            cache=str(self.folder / "cache"),
        ).model_copy(update=changes)

    def start(self, request: TrialRequest) -> PreforkedProcess:
        directory = Path(request.directory)
        directory.mkdir(parents=True)
        (directory / "request.json").write_text(request.model_dump_json())
        command = ["haqa_runner", "quantize", "--request", str(directory / "request.json")]
        return self.launcher.launch(command, dict(os.environ), directory, directory / "log")

    def run(self, request: TrialRequest) -> TrialReport:
        code = self.start(request).wait(LIMIT_S)
        report = left(request)
        assert code == (0 if report.failure is None else 3), log_of(request)
        return report

    def make(self, *configuration: Any, **changes: Any) -> ArtifactReport:
        request = self.request(*configuration, **changes)
        report = self.run(request)
        assert report.failure is None, f"{report.failure}\n{log_of(request)}"
        assert report.artifact is not None
        return report.artifact

    def fail(self, *configuration: Any, **changes: Any) -> Failure:
        failure = self.run(self.request(*configuration, **changes)).failure
        assert failure is not None
        return failure


def left(request: TrialRequest) -> TrialReport:
    return TrialReport.model_validate_json((Path(request.directory) / "quantize.json").read_bytes())


def log_of(request: TrialRequest) -> str:
    return (Path(request.directory) / "log").read_text()


def progress_of(request: TrialRequest) -> list[Progress]:
    lines = [line for line in log_of(request).splitlines() if line.startswith(PROGRESS_PREFIX)]
    return [Progress.model_validate_json(line.removeprefix(PROGRESS_PREFIX)) for line in lines]


def wait_until(condition: Callable[[], bool], process: PreforkedProcess) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended too early, with {process.wait(0.05)}")
