"""The record of a tuning on one machine: one line for every thing that happened, never edited.

A line is complete or ignored: it carries a checksum, and it is on the disk before the next step starts. So the process
may be killed at any moment; what had been measured is still there, and a proposal that was not measured yet is measured
next, without asking anybody again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from haqa_operator.api import Trial
from haqa_operator.decision.results import Confirmation
from haqa_operator.tuning.record import TuningRecord


class JournalBusyError(Exception):
    """Another process is writing this journal."""


class Journal:
    """Append-only, crash-safe log of one pool's trials.

    Only one process may hold it; the lock goes with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise JournalBusyError(
                f"{path.parent}: another `haqa tune` is working there; wait for it, or give this one another --out"
            ) from None
        self._drop_torn_line()

    def close(self) -> None:
        self._file.close()

    def started(self, time: float) -> None:
        self._append("started", {"time": time})

    def proposed(self, trial: Trial) -> None:
        self._append("proposed", trial.model_dump(mode="json", by_alias=True))

    def finished(self, trial: Trial) -> None:
        self._append("finished", trial.model_dump(mode="json", by_alias=True))

    def confirmed(self, confirmation: Confirmation) -> None:
        self._append("confirmed", confirmation.model_dump(mode="json", by_alias=True))

    def read(self) -> TuningRecord:
        return read_journal(self.path)

    def _append(self, kind: str, data: dict[str, Any]) -> None:
        self._file.write(_encode(kind, data))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _drop_torn_line(self) -> None:
        """Cuts off what a killed writer left after the last complete line."""
        self._file.seek(0)
        content = self._file.read()
        keep = content.rfind(b"\n") + 1
        if keep < len(content):
            self._file.truncate(keep)


def read_journal(path: Path) -> TuningRecord:
    """The state that a journal records; an absent file is an empty state, damaged lines are left out."""
    state = TuningRecord()
    if not path.exists():
        return state
    trials: dict[int, Trial] = {}
    for kind, data in _decode(path.read_bytes()):
        match kind:
            case "started":
                state.started = state.started or data["time"]
            case "proposed" | "finished":
                trial = Trial.model_validate(data)
                trials[trial.number] = trial
            case "confirmed":
                state.confirmations += (Confirmation.model_validate(data),)
    state.trials = tuple(trials[number] for number in sorted(trials))
    return state


def _encode(kind: str, data: dict[str, Any]) -> bytes:
    body = json.dumps({"kind": kind, "data": data}, separators=(",", ":"), sort_keys=True)
    return f"{_checksum(body)} {body}\n".encode()


def _decode(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in content.splitlines():
        checksum, _, body = line.decode(errors="replace").partition(" ")
        if body and checksum == _checksum(body):
            entry = json.loads(body)
            yield entry["kind"], entry["data"]


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
