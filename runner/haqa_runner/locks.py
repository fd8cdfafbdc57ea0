"""Makes sure that of several runners only one does the same work, on one machine or on a shared file system.

`flock` is released by the kernel however its holder dies, so no lock can be left behind. Lock files stay: removing them
would let two runners hold locks on two files of the same name.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure

_POLL_S = 0.2


@contextmanager
def exclusive(
    path: Path,
    *,
    limit_s: float,
    waiting: Callable[[str, float], None],
    what: str,
) -> Iterator[bool]:
    """Holds the lock file `path`; yields whether it had to wait for somebody else.

    Args:
        path: Lock file; made if it is missing.
        limit_s: Longest wait.
        waiting: Told, while waiting, who holds the lock and the share of `limit_s` that has passed.
        what: The work, for the sentence when the wait was in vain.

    Raises:
        TrialFailure: Timeout, when another runner still holds the lock after `limit_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        waited = _acquire(stream.fileno(), path, limit_s, waiting, what)
        os.ftruncate(stream.fileno(), 0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        stream.flush()
        yield waited


def free(path: Path) -> bool:
    """Whether nobody holds the lock file `path` at this moment."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _acquire(descriptor: int, path: Path, limit_s: float, waiting: Callable[[str, float], None], what: str) -> bool:
    began = time.monotonic()
    waited = False
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError:
            waited = True
        passed = time.monotonic() - began
        holder = path.read_text(errors="replace") or "another runner"
        if passed >= limit_s:
            raise TrialFailure(
                FailureReason.TIMEOUT,
                f"{what} is still being made by {holder} after {limit_s:.0f} s (lock {path}); "
                "wait for it, or end it if it hangs",
            )
        waiting(holder, passed / limit_s)
        pause.wait(_POLL_S)
