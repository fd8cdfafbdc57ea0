"""Every tuning with news is looked at, by one worker at a time, and again after an error."""

from __future__ import annotations

import asyncio
import threading

import pytest

from haqa_operator.cluster.act.reconciler import Key
from haqa_operator.cluster.edges.api_server import ApiError
from haqa_operator.handlers import queue as module
from haqa_operator.handlers.queue import Queue

A, B = Key("ns", "a"), Key("ns", "b")


async def worked(queue: Queue, *keys: Key, until: asyncio.Event | None = None) -> None:
    """Runs the queue until `until` is set, or until nothing is left to do."""
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    for key in keys:
        queue.add(key)
    if until is not None:
        await asyncio.wait_for(until.wait(), 10)
    while queue.depth or queue._working:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_same_news_twice_is_one_look() -> None:
    seen: list[Key] = []

    def look(key: Key) -> None:
        seen.append(key)

    asyncio.run(worked(Queue(look, workers=1), A, A, B, A))
    assert seen == [A, B]


def test_news_during_a_look_means_another_look_and_never_two_at_once() -> None:
    running, most, looks = 0, 0, 0
    guard = threading.Lock()

    async def scenario() -> None:
        begun, over = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        go_on = threading.Event()

        def look(key: Key) -> None:
            nonlocal running, most, looks
            with guard:
                running += 1
                most = max(most, running)
                looks += 1
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)
            with guard:
                running -= 1
                if looks == 2:
                    loop.call_soon_threadsafe(over.set)

        queue = Queue(look, workers=4)
        task = asyncio.create_task(worked(queue, A, until=over))
        await asyncio.wait_for(begun.wait(), 10)
        queue.add(A)
        queue.add(A)
        go_on.set()
        await task

    asyncio.run(scenario())
    assert (looks, most) == (2, 1)


@pytest.mark.parametrize("error", [ApiError("refused"), ValueError("a bug")])
def test_an_error_is_no_end(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.01)
    looks = 0

    async def scenario() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look(key: Key) -> None:
            nonlocal looks
            looks += 1
            if looks < 3:
                raise error
            loop.call_soon_threadsafe(over.set)

        await worked(Queue(look), A, until=over)

    asyncio.run(scenario())
    assert looks == 3


def test_a_wait_that_is_over_is_news() -> None:
    looks = 0

    async def scenario() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look(key: Key) -> float | None:
            nonlocal looks
            looks += 1
            if looks == 2:
                loop.call_soon_threadsafe(over.set)
                return None
            return 0.01

        await worked(Queue(look), A, until=over)

    asyncio.run(scenario())
    assert looks == 2
