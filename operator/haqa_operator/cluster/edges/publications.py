"""Publishes in the background: a git server may hang for minutes, and nothing else waits for it.

What is under way and what became of it is held in memory alone. An operator that is restarted asks again, which changes
nothing in the repository.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops import FINAL, GitCredentials, Publication, Published, PublishError

Publish = Callable[[Publication, GitOutput, GitCredentials, Published | None], Published]
"""`gitops.apart.publish_apart`, or what stands in for it."""

_FIRST_RETRY_S: Final = 15.0
_LONGEST_RETRY_S: Final = 900.0


@dataclass(frozen=True)
class PublicationRequest:
    """Which answer of which pool of which tuning, and where to.

    Attributes:
        key: Of the publication.
        target: A fingerprint of the spec and the credentials: with others it is asked anew.
    """

    uid: str
    pool: str
    key: str
    target: str = ""


@dataclass(frozen=True)
class Outcome:
    """What is known of a publication.

    Attributes:
        published: The last that succeeded.
        error: Why the last attempt failed; None where it did not.
        under_way: An attempt is being made.
    """

    published: Published | None = None
    error: PublishError | None = None
    under_way: bool = False


@dataclass
class _Entry:
    under_way: bool = False
    published: Published | None = None
    error: PublishError | None = None
    failures: int = 0
    next_at: float = 0.0


class BackgroundPublications:
    """Attempts under way and their outcomes.

    Args:
        look_again_s: After how long an open pull request, or a conflict, is looked at again.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, at_once: int = 4, look_again_s: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="publish")
        self._entries: dict[PublicationRequest, _Entry] = {}
        self._look_again_s = look_again_s
        self._clock = clock
        self._lock = threading.Lock()

    def ask(
        self,
        request: PublicationRequest,
        publish: Callable[[Published | None], Published],
        on_change: Callable[[], None],
        known: Published | None = None,
    ) -> Outcome:
        """What is known now. Starts an attempt where one is due, however often it is called; never waits.

        Args:
            publish: Given what the last attempt returned.
            known: What is on record of it, for an operator that has started anew.
            on_change: Has the tuning reconciled again, after an attempt that says something new.
        """
        with self._lock:
            entry = self._entries.setdefault(request, _Entry(published=known))
            if not entry.under_way and self._due(entry):
                entry.under_way = True
                self._threads.submit(self._attempt, request, entry, publish, on_change)
            return self._outcome(entry)

    def known(self, request: PublicationRequest) -> Outcome:
        """As `ask` says it, without starting anything."""
        with self._lock:
            entry = self._entries.get(request)
            return Outcome() if entry is None else self._outcome(entry)

    def seconds_until_due(self, request: PublicationRequest) -> float | None:
        """When to ask again; None where nothing more becomes of it."""
        with self._lock:
            entry = self._entries.get(request)
            if entry is None:
                return 0.0
            if entry.published is not None and entry.published.state in FINAL and entry.error is None:
                return None
            return max(0.0, entry.next_at - self._clock())

    def forget(self, uid: str, pool: str | None = None) -> None:
        """The tuning, or its pool, is gone, or has another answer; what is under way ends unheard."""
        with self._lock:
            for one in [one for one in self._entries if one.uid == uid and pool in (None, one.pool)]:
                del self._entries[one]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _due(self, entry: _Entry) -> bool:
        if entry.published is not None and entry.published.state in FINAL and entry.error is None:
            return False
        return self._clock() >= entry.next_at

    def _attempt(
        self,
        request: PublicationRequest,
        entry: _Entry,
        publish: Callable[[Published | None], Published],
        on_change: Callable[[], None],
    ) -> None:
        published, error = None, None
        try:
            published = publish(entry.published)
        except PublishError as problem:
            error = problem
        except Exception as bug:
            error = PublishError(
                f"spec.output.git: internal error: {type(bug).__name__}; please report it", transient=True
            )
        with self._lock:
            changed = published != entry.published if error is None else str(error) != str(entry.error)
            changed = changed or (error is None and entry.error is not None)
            entry.under_way, entry.error = False, error
            entry.published = published or entry.published
            entry.failures = entry.failures + 1 if error else 0
            entry.next_at = self._clock() + (self._retry_s(entry.failures) if error else self._look_again_s)
            heard = self._entries.get(request) is entry
        if heard and changed:
            on_change()

    @staticmethod
    def _retry_s(failures: int) -> float:
        return float(min(_FIRST_RETRY_S * 2 ** (failures - 1), _LONGEST_RETRY_S))

    @staticmethod
    def _outcome(entry: _Entry) -> Outcome:
        return Outcome(entry.published, entry.error, entry.under_way)
