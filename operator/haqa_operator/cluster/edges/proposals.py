"""Asks strategies in the background: an LLM may think for minutes, and nothing else waits for it.

What is being asked and what was answered is held in memory alone. An operator that is restarted asks again; the trial's
name follows from its number, so that two answers never make two trials.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from haqa_operator.api import Proposal
from haqa_operator.search.strategies import Stop

_MOMENT_S = 0.2


@dataclass(frozen=True)
class ProposalRequest:
    """Which trial of which pool, of which run of which tuning."""

    uid: str
    pool: str
    fingerprint: str
    number: int


class BackgroundProposals:
    """Questions under way and answers not used yet."""

    def __init__(self, at_once: int = 8) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="ask")
        self._futures: dict[ProposalRequest, Future[Proposal | Stop]] = {}
        self._lock = threading.Lock()

    def ask(
        self, question: ProposalRequest, propose: Callable[[], Proposal | Stop], on_answer: Callable[[], None]
    ) -> None:
        """Once for each question, however often it is called; `on_answer` has the tuning reconciled again.

        Comes back with the answer of a strategy that only computes; a model's is not waited for.
        """
        with self._lock:
            if question in self._futures:
                return
            future = self._threads.submit(propose)
            self._futures[question] = future
        _, thinking = wait([future], _MOMENT_S)
        if thinking:
            future.add_done_callback(lambda _: on_answer())

    def waiting(self, question: ProposalRequest) -> bool:
        with self._lock:
            future = self._futures.get(question)
        return future is not None and not future.done()

    def answer(self, question: ProposalRequest) -> Future[Proposal | Stop] | None:
        """The answer, until it is forgotten; None while there is none."""
        with self._lock:
            future = self._futures.get(question)
        return future if future is not None and future.done() else None

    def forget(self, question: ProposalRequest) -> None:
        """The answer was used, or is no use: the question may be asked again."""
        with self._lock:
            self._futures.pop(question, None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
