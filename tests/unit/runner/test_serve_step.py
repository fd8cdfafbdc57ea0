"""The step `serve`, as a process: it serves until it is stopped, and that is its good end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from haqa_contract import Configuration, EngineLaunch, FailureReason, ModelSource, TrialReport, TrialRequest

ROOT = Path(__file__).parents[3]


def wait_for(condition: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def start(folder: Path, order: str, port: int) -> subprocess.Popen[bytes]:
    """`python -m haqa_runner serve` with an interpreter that runs the stand-in whatever module it is told to run."""
    stand_in = folder / "python"
    stand_in.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -m tests.fakes.engine_process "$@"\n')
    stand_in.chmod(0o755)
    request = TrialRequest(
        tuning="t",
        trial="t-1",
        pool="p",
        model=ModelSource(uri="file:///m"),
        configuration=Configuration(),
        engine=EngineLaunch(
            args=("--served-model-name", "tiny"), env={"FAKE_ENGINE": order}, served_model_name="tiny", port=port
        ),
        store=str(folder),
        directory=str(folder),
        cache=str(folder),
    )
    (folder / "request.json").write_text(request.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runner'}", "HAQA_SERVING_PYTHON": str(stand_in)}
    command = [sys.executable, "-m", "haqa_runner", "serve", "--request", str(folder / "request.json")]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def report_in(folder: Path) -> TrialReport:
    return TrialReport.model_validate_json((folder / "serve.json").read_bytes())


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_report_is_there_while_it_serves_and_sigterm_is_no_failure(tmp_path: Path, port: int) -> None:
    process = start(tmp_path, "", port)
    wait_for(lambda: (tmp_path / "serve.json").exists())
    report = report_in(tmp_path)
    assert report.engine is not None
    assert report.engine.version == "0.0.fake"
    assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    final = report_in(tmp_path)
    assert final.failure is None
    assert [phase.name for phase in final.phases] == ["load"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)


def test_an_engine_that_does_not_start_is_a_report_with_the_reason(tmp_path: Path, port: int) -> None:
    process = start(tmp_path, "die", port)
    process.communicate(timeout=30)
    assert process.returncode == 3
    failure = report_in(tmp_path).failure
    assert failure is not None
    assert failure.reason is FailureReason.ENGINE_LOAD_FAILED
    assert "does not know the argument --flux 9" in failure.message


def test_an_engine_that_dies_while_it_serves_is_a_report_with_the_reason(tmp_path: Path, port: int) -> None:
    process = start(tmp_path, "", port)
    wait_for(lambda: (tmp_path / "serve.json").exists())
    engine = report_in(tmp_path).engine
    assert engine is not None
    assert engine.pid is not None
    os.killpg(engine.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 3
    failure = report_in(tmp_path).failure
    assert failure is not None
    assert failure.reason is FailureReason.ENGINE_OOM
