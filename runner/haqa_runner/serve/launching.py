"""Starting the engine's process, and making sure that nothing of it outlives whoever started it.

vLLM is three or more processes, and one that is left behind keeps its memory and its port, so that the next trial
fails or is measured on half a machine. The kernel's own PR_SET_PDEATHSIG reaches only the direct child, and fires when
the *thread* that started it ends. So the ordinary launcher puts a guard of a few megabytes between: it leads the
engine's process group, watches for its own parent and takes the group along when that is gone.

The guard is this module run as a program (`python -m haqa_runner.serve.launching PARENT COMMAND...`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

_PR_SET_PDEATHSIG = 1
_WATCH_S = 0.5
"""How long a group may outlive the parent's death."""
_PARENT_GONE_GRACE_S = 5.0
_POLL_S = 0.05
_HAS_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


class EngineChild(Protocol):
    """The part of subprocess.Popen that serving needs; signals reach the whole process group."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Spawn(Protocol):
    """Runs the module `argv[0]` with arguments `argv[1:]`; `env` is its whole environment, output goes to `log`.

    `haqa_runner.prefork.PreforkedLauncher.launch` is one; `guarded(python)` makes the ordinary one.
    """

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> EngineChild: ...


def guarded(python: Path) -> Spawn:
    """Starts modules with the interpreter `python`, in a session of their own, under a guard."""

    def spawn(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> EngineChild:
        # -S -E: the guard must start in milliseconds and must not be changed by the engine's environment.
        guard = [sys.executable, "-S", "-E", os.fspath(Path(__file__)), str(os.getpid())]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*guard, os.fspath(python), "-m", *argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return GuardedProcess(process)

    return spawn


class GuardedProcess:
    """A program behind its guard. When the program ends, the rest of its group is killed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The program's exit code, 128 + N if signal N ended it; None while it runs."""
        if self._process.returncode is None and os.waitid(os.P_PID, self.pid, _HAS_ENDED):
            # Before the guard's process id is given back and may become somebody else's group.
            self._kill_group()
        return self._process.poll()

    def wait(self, timeout: float) -> int:
        """Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._process.args, timeout)
            time.sleep(_POLL_S)
        return code

    def terminate(self) -> None:
        """SIGTERM to the guard, which passes it on to the program alone: vLLM ends its own workers in order."""
        if self.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self.poll() is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _guard(parent: int, command: Sequence[str]) -> int:
    """Runs `command` until it ends or `parent` is gone; the exit code to leave with."""
    child = subprocess.Popen(command, preexec_fn=_die_with_parent)

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while os.getppid() == parent:
        try:
            code = child.wait(_WATCH_S)
        except subprocess.TimeoutExpired:
            continue
        return code if code >= 0 else 128 - code
    child.terminate()
    deadline = time.monotonic() + _PARENT_GONE_GRACE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(0, signal.SIGKILL)
    return 128 + signal.SIGKILL


def _die_with_parent() -> None:
    # Safe between fork and exec here: the guard has one thread.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), sys.argv[2:]))
