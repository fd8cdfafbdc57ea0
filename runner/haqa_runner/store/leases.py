"""A lock in a bucket: an object that one runner creates, keeps alive and deletes.

S3 has no locks, but it has conditional writes: creating with If-None-Match succeeds for one, and taking over a lease
whose holder has died succeeds for the one whose If-Match still fits. Age is judged by the server's own clock.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.s3 import S3Client, S3Place, is_missing, is_precondition_failure, is_s3_error

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTiming:
    """Seconds: a lease not renewed for `expiry_s` may be taken over."""

    expiry_s: float = 60.0
    renewal_s: float = 15.0
    poll_s: float = 1.0


class Lease:
    """A held lease; `lost` once somebody else may have it."""

    def __init__(self, client: S3Client, place: S3Place, etag: str, timing: LeaseTiming) -> None:
        self._client, self._place, self._etag, self._timing = client, place, etag, timing
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="haqa-lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def release(self) -> None:
        """Ends the lease; does nothing to one that somebody else has taken over."""
        self._stop.set()
        self._thread.join()
        if self.lost:
            return
        try:
            self._client.boto.delete_object(Bucket=self._place.bucket, Key=self._place.key)
        except Exception as error:
            if not is_s3_error(error):
                raise
            log.warning("lease %s was not released (%s); it expires by itself", self._place, cause_of(error))

    def _keep(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(self._timing.renewal_s):
            try:
                self._etag = _write(self._client, self._place, {"IfMatch": self._etag})
                last = time.monotonic()
            except Exception as error:
                if is_precondition_failure(error) or is_missing(error):
                    log.warning("lease %s was taken over", self._place)
                    self._lost.set()
                    return
                log.warning("lease %s was not renewed: %s", self._place, cause_of(error))
            if time.monotonic() - last > self._timing.expiry_s:
                self._lost.set()
                return


@contextmanager
def leased(
    client: S3Client,
    place: S3Place,
    *,
    limit_s: float,
    waiting: Callable[[str, float], None],
    what: str,
    timing: LeaseTiming,
    wanted: Callable[[], bool],
) -> Iterator[Lease | None]:
    """Holds the lease at `place`; yields None if `wanted` turned false while waiting (somebody else did the work).

    Raises:
        TrialFailure: Timeout, when another runner still holds the lease after `limit_s`.
    """
    began = time.monotonic()
    pause = threading.Event()
    while (etag := _acquire(client, place, timing)) is None:
        passed = time.monotonic() - began
        if passed >= limit_s:
            raise TrialFailure(
                FailureReason.TIMEOUT,
                f"{what} is still being made by another runner after {limit_s:.0f} s (lease {place}); "
                "wait for it, or end it if it hangs",
            )
        waiting("another runner", passed / limit_s)
        pause.wait(timing.poll_s)
        if not wanted():
            yield None
            return
    lease = Lease(client, place, etag, timing)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(client: S3Client, place: S3Place, timing: LeaseTiming) -> str | None:
    """The new lease's ETag, or None while somebody else is alive and holds it."""
    try:
        return _write(client, place, {"IfNoneMatch": "*"})
    except Exception as error:
        if not is_precondition_failure(error):
            raise
    try:
        head = client.boto.head_object(Bucket=place.bucket, Key=place.key)
    except Exception as error:
        if is_missing(error):
            return None
        raise
    if _age_s(head["LastModified"], head["ResponseMetadata"]["HTTPHeaders"].get("date")) < timing.expiry_s:
        return None
    try:
        etag = _write(client, place, {"IfMatch": head["ETag"]})
    except Exception as error:
        if is_precondition_failure(error) or is_missing(error):
            return None
        raise
    log.warning("lease %s had expired: its holder died; taken over", place)
    return etag


def _write(client: S3Client, place: S3Place, condition: dict[str, str]) -> str:
    # The token makes every version of the object, and so its ETag, a different one.
    holder = {"holder": f"process {os.getpid()} on {socket.gethostname()}", "token": secrets.token_hex(8)}
    answer = client.boto.put_object(
        Bucket=place.bucket,
        Key=place.key,
        Body=json.dumps(holder).encode(),
        ContentType="application/json",
        **condition,
    )
    return str(answer["ETag"])


def _age_s(modified: datetime, server_date: str | None) -> float:
    now = parsedate_to_datetime(server_date) if server_date else datetime.now(tz=modified.tzinfo)
    return (now - modified).total_seconds()
