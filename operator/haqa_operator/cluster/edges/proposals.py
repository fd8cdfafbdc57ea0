"""Asks strategies in the background: an LLM may think for minutes, and nothing else waits for it.

What is being asked and what was answered is held in memory alone. An operator that is restarted asks again; the trial's
name follows from its number, so that two answers never make two trials.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
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


Propose = Callable[[], Proposal | Stop]


class BackgroundProposals:
    """Questions under way and answers not used yet.

    Args:
        at_once: Questions under way.
        of_one_tuning: Of these, those of one tuning: an endpoint that hangs keeps nobody else waiting.
    """

    def __init__(self, at_once: int = 48, of_one_tuning: int = 4) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="ask")
        self._of_one_tuning = of_one_tuning
        self._futures: dict[ProposalRequest, Future[Proposal | Stop]] = {}
        self._queues: dict[str, deque[tuple[Future[Proposal | Stop], Propose]]] = {}
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def ask(self, question: ProposalRequest, propose: Propose, on_answer: Callable[[], None]) -> None:
        """Once for each question, however often it is called; `on_answer` has the tuning reconciled again.

        Comes back with the answer of a strategy that only computes; a model's is not waited for.
        """
        with self._lock:
            if question in self._futures:
                return
            future: Future[Proposal | Stop] = Future()
            self._futures[question] = future
            self._queues.setdefault(question.uid, deque()).append((future, propose))
            self._start(question.uid)
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

    def _start(self, uid: str) -> None:
        """With the lock held."""
        queue = self._queues[uid]
        while queue and self._under_way[uid] < self._of_one_tuning:
            self._under_way[uid] += 1
            self._threads.submit(self._run, uid, *queue.popleft())
        if not queue and not self._under_way[uid]:
            del self._queues[uid], self._under_way[uid]

    def _run(self, uid: str, future: Future[Proposal | Stop], propose: Propose) -> None:
        try:
            future.set_result(propose())
        except BaseException as error:
            future.set_exception(error)
        with self._lock:
            self._under_way[uid] -= 1
            self._start(uid)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
