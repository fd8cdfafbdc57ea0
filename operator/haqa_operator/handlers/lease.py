"""One operator at a time: a Lease, held by whoever acts. Two by mistake would decide beside each other.

Whoever cannot renew it any more ends at once, since another may have it by then; the next start begins with what is on
the API server, as every start does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kubernetes import client
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger(__name__)

LOST: Final = 70
"""Exit status of an operator that has lost its Lease."""
_CALL_LIMITS_S: Final = (3, 5)
"""To connect, and to be answered."""
_LOOK_S: Final = 0.25
_SAID_EVERY_S: Final = 60
_RENEWALS: Final = ("create_namespaced_lease", "replace_namespaced_lease")


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds. Whoever dies without giving it back is succeeded after `duration_s`."""

    duration_s: int = 30
    renew_deadline_s: int = 20
    retry_s: int = 4


def _ended() -> None:
    os._exit(LOST)


@dataclass
class Lease:
    """The right to act.

    Attributes:
        api: A client that tries each call once.
        name, namespace: Of the Lease.
        holder: Who asks for it; unlike any other's.
        lost: Called once it cannot be renewed; has to end the process.
    """

    api: client.CoordinationV1Api
    name: str
    namespace: str
    holder: str
    times: LeaseTimes = LeaseTimes()
    lost: Callable[[], None] = _ended
    _held: threading.Event = field(default_factory=threading.Event)
    _given_back: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        # It tells of every renewal.
        logging.getLogger("leaderelection").setLevel(logging.WARNING)
        self._calls = _Limited(self.api, self._given_back)

    @property
    def held(self) -> bool:
        return self._held.is_set()

    @property
    def trouble(self) -> str | None:
        """Why the last call failed; None where it did not."""
        return self._calls.trouble

    async def acquire(self) -> None:
        """Waits until it is free, and from then on keeps it."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()
        waited_s = 0.0
        while not self.held:
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S
            if waited_s % _SAID_EVERY_S == 0:
                log.warning("%s", self.waiting)

    @property
    def waiting(self) -> str:
        """What a standby waits for, as a sentence."""
        which = f"Lease {self.namespace}/{self.name}"
        if self.trouble is not None:
            return f"{which} cannot be asked for: {self.trouble}"
        return f"another operator holds {which}; this one waits for it"

    def give_back(self) -> None:
        """So that whoever comes next need not wait until it has run out. Blocks for a call or two."""
        self._given_back.set()
        if not self.held:
            return
        now, lock = str(datetime.now(UTC)), self._lock(_Limited(self.api, threading.Event()))
        there, record = lock.get(self.name, self.namespace)
        if there and record.holder_identity == self.holder:
            lock.update(self.name, self.namespace, LeaderElectionRecord("", "1", now, now))

    def _run(self) -> None:
        times = self.times
        config = Config(
            self._lock(self._calls),
            times.duration_s,
            times.renew_deadline_s,
            times.retry_s,
            self._lead,
            self._stopped,
        )
        try:
            LeaderElection(config).run()
        except BaseException:
            log.exception("keeping Lease %s/%s", self.namespace, self.name)
            self._stopped()

    def _lock(self, calls: _Limited) -> LeaseLock:
        lock = LeaseLock(self.name, self.namespace, self.holder)
        lock.api_instance = calls
        return lock

    def _lead(self) -> None:
        """Runs as long as it is held: a call that hangs must not make it seem held for longer."""
        self._held.set()
        while not self._given_back.wait(_LOOK_S):
            if self._calls.silent_s > self.times.renew_deadline_s:
                self._stopped()
                return

    def _stopped(self) -> None:
        if not self._given_back.is_set():
            log.error("Lease %s/%s was not renewed: another operator may act now", self.namespace, self.name)
            self.lost()


class _Limited:
    """The client's calls with time limits; one that does not end well is one that failed, whatever it was.

    Args:
        closed: Once it is set, no call is made.
    """

    def __init__(self, api: client.CoordinationV1Api, closed: threading.Event) -> None:
        self._api = api
        self._closed = closed
        self._renewed = time.monotonic()
        self.trouble: str | None = None

    @property
    def silent_s(self) -> float:
        """Since it was renewed last."""
        return time.monotonic() - self._renewed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._api, name)

        def limited(*given: Any, **named: Any) -> Any:
            if self._closed.is_set():
                raise client.ApiException(status=0, reason="it was given back")
            began = time.monotonic()
            try:
                found = call(*given, **named, _request_timeout=_CALL_LIMITS_S)
            except client.ApiException as error:
                # That there is none yet, or that another was faster, is no trouble.
                self.trouble = None if error.status in (404, 409) else f"{error.status} {error.reason}"
                raise
            except Exception as error:
                self.trouble = f"{type(error).__name__}: {error}"
                raise client.ApiException(status=0, reason=self.trouble) from error
            self.trouble = None
            if name in _RENEWALS:
                self._renewed = began
            return found

        return limited
