"""Runner steps as processes of this machine: started, watched, and read line by line.

A process comes from `subprocess` or from a preforked interpreter that has its imports done already
(`haqa_runner.prefork`); both look alike from here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from haqa_contract import PROGRESS_PREFIX, Progress
from haqa_runner.prefork import PreforkedLauncher, PreforkError

POLL_S = 0.1


class Process(Protocol):
    """The part of `subprocess.Popen` that a step needs."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Launcher(Protocol):
    """Starts `python -m argv[0] argv[1:]` with exactly this environment, its output appended to `log`."""

    def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Process: ...
    def close(self) -> None: ...


class PlainLauncher:
    """Every process from nothing."""

    def __init__(self, python: Path) -> None:
        self.python = python

    def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Process:
        with log.open("ab") as output:
            process: Process = subprocess.Popen(
                [os.fspath(self.python), "-m", *argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return process

    def close(self) -> None:
        """Holds nothing."""


class PreforkingLauncher:
    """Processes forked from an interpreter that has imported `preload`; from nothing, should that fail.

    The interpreter is started at the first use, and `note` is told if it cannot be.
    """

    def __init__(self, python: Path, preload: Sequence[str], note: Callable[[str], None]) -> None:
        self._plain = PlainLauncher(python)
        self._preforked: PreforkedLauncher | None = PreforkedLauncher(python, preload)
        self._note = note

    def warm(self, *environments: Mapping[str, str]) -> None:
        """Begins importing for processes with these environments, beside whatever the caller does next."""
        preforked = self._preforked
        if preforked is None:
            return
        try:
            preforked.start()
        except PreforkError:
            return  # the first launch meets it again, and says so

        def work(env: Mapping[str, str]) -> None:
            # What fails here, or is cut off by close(), costs the first launch its imports and nothing else.
            with contextlib.suppress(PreforkError, OSError):
                preforked.warm(env)

        for env in environments:
            threading.Thread(target=work, args=(dict(env),), name="haqa-warm", daemon=True).start()

    def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Process:
        if self._preforked is not None:
            try:
                self._preforked.start()
                return self._preforked.launch(argv, env, cwd, log)
            except PreforkError as error:
                first = str(error).strip().splitlines()[0]
                self._note(f"starting every process from nothing from now on: {first}")
                self._preforked.close()
                self._preforked = None
        return self._plain.launch(argv, env, cwd, log)

    def close(self) -> None:
        if self._preforked is not None:
            self._preforked.close()


class StepTimeout(Exception):
    """A step outlived its limit and was ended."""


def run_step(
    launcher: Launcher,
    argv: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    log_name: str,
    timeout_s: float,
    on_progress: Callable[[Progress], None],
) -> int:
    """Runs one step to its end and passes its progress on; returns its exit code.

    Raises:
        StepTimeout: after `timeout_s` seconds; the process is gone then.
    """
    log = folder / log_name
    log.unlink(missing_ok=True)
    log.touch()
    process = launcher.launch(argv, env, folder, log)
    deadline = time.monotonic() + timeout_s
    try:
        with log.open("r", encoding="utf-8", errors="replace") as lines:
            while (code := process.poll()) is None:
                _pass_on(lines, on_progress)
                if time.monotonic() > deadline:
                    raise StepTimeout(f"{argv[1]} was still working after {timeout_s:.0f} s")
                time.sleep(POLL_S)
            _pass_on(lines, on_progress)
            return code
    finally:
        end(process)


def end(process: Process, grace_s: float = 10) -> None:
    """Makes sure that a process is gone: asked first, killed after `grace_s` seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(grace_s)


def _pass_on(lines: Iterator[str], on_progress: Callable[[Progress], None]) -> None:
    for line in lines:
        if not line.startswith(PROGRESS_PREFIX):
            continue
        try:
            progress = Progress.model_validate_json(line.removeprefix(PROGRESS_PREFIX))
        except ValidationError:
            continue  # the line is still being written; the next one says more
        on_progress(progress)
