"""One operator at a time: a Lease, held by whoever acts. Two by mistake would decide beside each other.

Whoever cannot renew it any more ends at once, since another may have it by then; the next start begins with what is on
the API server, as every start does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kubernetes import client
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from urllib3.exceptions import HTTPError

log = logging.getLogger(__name__)

LOST: Final = 70
"""Exit status of an operator that has lost its Lease."""
_CALL_LIMITS_S: Final = (5, 5)
_LOOK_S: Final = 0.25
_SAID_EVERY_S: Final = 60


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

    @property
    def held(self) -> bool:
        return self._held.is_set()

    async def acquire(self) -> None:
        """Waits until it is free, and from then on keeps it."""
        times, lock = self.times, self._lock(self._given_back)
        config = Config(lock, times.duration_s, times.renew_deadline_s, times.retry_s, self._lead, self._stopped)
        threading.Thread(target=LeaderElection(config).run, name="lease", daemon=True).start()
        waited_s = 0.0
        while not self._held.is_set():
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S
            if waited_s % _SAID_EVERY_S == 0:
                log.info("another operator holds Lease %s/%s; waiting for it", self.namespace, self.name)

    def give_back(self) -> None:
        """So that whoever comes next need not wait until it has run out."""
        self._given_back.set()
        if not self._held.is_set():
            return
        now, lock = str(datetime.now(UTC)), self._lock(threading.Event())
        there, record = lock.get(self.name, self.namespace)
        if there and record.holder_identity == self.holder:
            lock.update(self.name, self.namespace, LeaderElectionRecord("", "1", now, now))

    def _lock(self, closed: threading.Event) -> LeaseLock:
        lock = LeaseLock(self.name, self.namespace, self.holder)
        lock.api_instance = _Limited(self.api, closed)
        return lock

    def _lead(self) -> None:
        self._held.set()
        self._given_back.wait()

    def _stopped(self) -> None:
        if not self._given_back.is_set():
            log.error("Lease %s/%s could not be renewed: another operator may act now", self.namespace, self.name)
            self.lost()


class _Limited:
    """The client's calls with time limits; one that is not answered is one that failed.

    Args:
        closed: Once it is set, no call is made.
    """

    def __init__(self, api: client.CoordinationV1Api, closed: threading.Event) -> None:
        self._api = api
        self._closed = closed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._api, name)

        def limited(*given: Any, **named: Any) -> Any:
            if self._closed.is_set():
                raise client.ApiException(status=0, reason="it was given back")
            try:
                return call(*given, **named, _request_timeout=_CALL_LIMITS_S)
            except HTTPError as error:
                raise client.ApiException(status=0, reason=str(error)) from error

        return limited
