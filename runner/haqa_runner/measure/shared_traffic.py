"""The load generator: one closed loop in the measuring process, or one shared out over processes of its own.

Where one core of Python is enough, everything happens in the measuring process, which costs a machine that client and
engine share the least. Above that each process has its share of the streams and of the prompts. They are forked from a
clean process that has imported guidellm (multiprocessing's fork server), so that another one is there in
milliseconds, and stay for the whole load test. They inherit the cores and the priority that the measuring thread has.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self, cast

from haqa_contract import FailureReason, Workload
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.measure.capacity import CpuClock, usable_cpus
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.placement import own_clock
from haqa_runner.measure.prompts import Prompts, PromptSource
from haqa_runner.measure.traffic import SentRequest, Traffic
from haqa_runner.measure.traffic_messages import Broken, Count, Message, Order, Sent, Stop

_CHILD = "haqa_runner.measure.traffic_process"
_START_S = 120.0
"""For the first process, guidellm's imports included, on a machine that is busy."""


class GuidellmGenerator:
    """A `traffic.Generator`."""

    def __init__(self, endpoint: Endpoint, workload: Workload) -> None:
        self._endpoint, self._workload = endpoint, workload
        self._members: list[_Member] = []

    @property
    def most(self) -> int:
        return usable_cpus()

    def open(self, prompts: Prompts, streams: int, processes: int) -> Traffic:
        """Raises TrialFailure: a process cannot be started (LoadErrors)."""
        if processes <= 1:
            # guidellm takes two seconds to import; a process that sends no requests itself has no use for it.
            from haqa_runner.measure.guidellm_traffic import ClosedLoop

            return ClosedLoop(self._endpoint, self._workload, iter(prompts), streams)
        missing = processes - len(self._members)
        self._members += [_Member.started(self._endpoint, self._workload, prompts.source) for _ in range(missing)]
        for member in self._members:
            member.wait_until_ready()
        return SharedLoop(self._members[:processes], prompts, streams)

    def close(self) -> None:
        for member in self._members:
            member.close()
        self._members.clear()


@dataclass
class _Member:
    """One process, as the measuring process sees it."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    answered: int = 0
    failed: int = 0
    clock: CpuClock = field(default_factory=lambda: CpuClock(0.0, 0.0, 0.0))

    @classmethod
    def started(cls, endpoint: Endpoint, workload: Workload, source: PromptSource) -> _Member:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_CHILD])
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, endpoint, workload, source), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def wait_until_ready(self) -> None:
        if self.ready:
            return
        if not self.pipe.poll(_START_S):
            raise self.died(f"did not start within {_START_S:g} s")
        self.receive()
        self.ready = True

    def receive(self) -> Message:
        """The next message. Raises TrialFailure: the process has ended."""
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(1.0)
            raise self.died(f"ended with exit code {self.process.exitcode} ({cause_of(error)})") from error
        return message

    def died(self, how: str) -> TrialFailure:
        return TrialFailure(
            FailureReason.LOAD_ERRORS,
            f"a process of the load generator {how}; give the measuring container more memory if it was killed, "
            "else its log has the cause",
        )

    def say(self, message: Order | Stop) -> None:
        """To one that has ended, nothing: it is noticed by what it does not answer."""
        with suppress(OSError):
            self.pipe.send(message)

    def close(self) -> None:
        self.pipe.close()
        self.process.join(1.0)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def _serve(pipe: Connection, endpoint: Endpoint, workload: Workload, source: PromptSource) -> None:
    """In the new process."""
    from haqa_runner.measure.traffic_process import serve

    serve(pipe, endpoint, workload, source)


class SharedLoop:
    """A closed loop whose streams are shared out evenly. A `traffic.Traffic`."""

    def __init__(self, members: Sequence[_Member], prompts: Prompts, streams: int) -> None:
        self.sent: list[SentRequest] = []
        self._members = tuple(members)
        self._prompts, self._streams = prompts, streams
        self._news = asyncio.Event()
        self._failure: TrialFailure | None = None
        self._listening: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        loop, of = asyncio.get_running_loop(), len(self._members)
        for index, member in enumerate(self._members):
            member.answered = member.failed = 0
            streams = self._streams // of + (index < self._streams % of)
            member.say(Order(self._prompts.place, index, of, streams))
        self._listening = loop.run_in_executor(None, self._listen, loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Has every process cancel what is in flight, and takes over what each has sent."""
        for member in self._members:
            member.say(Stop())
        if self._listening is not None:
            await self._listening
        if error is None and self._failure is not None:
            raise self._failure

    @property
    def answered(self) -> int:
        return sum(member.answered for member in self._members)

    @property
    def failed(self) -> int:
        return sum(member.failed for member in self._members)

    @property
    def processes(self) -> int:
        return len(self._members)

    @property
    def clocks(self) -> tuple[CpuClock, ...]:
        """Of the measuring process, which counts for the others, and of each of those when it last said so."""
        return (own_clock(), *(member.clock for member in self._members))

    async def until(self, answered: int, failed: int) -> None:
        """Raises TrialFailure: a process has ended."""
        while self.answered < answered and self.failed <= failed:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread, until every process has handed over or ended."""
        talking = {member.pipe: member for member in self._members}
        while talking:
            for pipe in wait(list(talking)):
                member = talking[cast(Connection, pipe)]
                try:
                    message: Message | TrialFailure = member.receive()
                except TrialFailure as failure:
                    message = failure
                if not isinstance(message, Count):
                    del talking[member.pipe]
                loop.call_soon_threadsafe(self._take, member, message)

    def _take(self, member: _Member, message: Message | TrialFailure) -> None:
        match message:
            case Count(answered, failed, clock):
                member.answered, member.failed, member.clock = answered, failed, clock
            case Sent(requests):
                self.sent += requests
            case Broken(cause):
                self._failure = member.died(f"failed ({cause})")
            case TrialFailure():
                self._failure = message
        self._news.set()
