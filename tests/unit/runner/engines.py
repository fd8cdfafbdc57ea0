"""Engines that the runner starts: real processes, with a fake of vLLM inside."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from haqa_contract import EngineLaunch
from haqa_runner.serve.engine import EngineProcess
from haqa_runner.serve.launching import EngineChild, guarded

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runner'}"}


def spawn_fake(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> EngineChild:
    return guarded(Path(sys.executable))(["tests.fakes.engine_process", *argv[1:]], env, cwd, log)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def engine(folder: Path, order: str = "", *, timeout_s: float = 30, port: int = 0, **env: str) -> EngineProcess:
    launch = EngineLaunch(
        args=("--model", "/models/tiny", "--served-model-name", "tiny"),
        env={"FAKE_ENGINE": order, **env},
        served_model_name="tiny",
        port=port or free_port(),
        startup_timeout_s=timeout_s,
    )
    return EngineProcess(launch, folder, spawn_fake, inherit=ENVIRONMENT)
