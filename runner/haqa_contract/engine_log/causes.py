"""Which of a log's messages is the root cause.

The process that failed first has it; the others only report that a process failed ("Engine core initialization failed.
See root cause above"), or that a connection to it broke. What a process survived is no cause, and neither is what it
writes once it has been asked to stop.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.messages import Kind, Message, Raised, messages

_POINTER = re.compile(
    r"Engine core initialization failed|Frontend process failed during engine core initialization"
    r"|WorkerProc initialization failed|Executor failed\.|\bEngineDeadError\b|AsyncEngineDeadError|MQEngineDeadError"
    r"|MQLLMEngine is already dead|Engine process (?:\(pid \d+\) died|failed to start)|Engine loop is not running"
    r"|\bdied unexpectedly(?! before)|\bdied with exit code -?\d+|\bdied, exit code: -?\d+"
    r"|Ray workers have not started successfully"
    r"|see stack trace above for the actual cause|Background loop has errored|Input socket thread died during startup"
    r"|resource_tracker|^(?:\S+\.)?(?:CancelledError|SystemExit|KeyboardInterrupt|GeneratorExit)\b"
    r"|^ChildProcessError\b|^EOFError$"
)
"""What one process says of another one's failure."""
_QUOTING_POINTER = re.compile(
    r"Worker failed with error (?P<q>['\"])(?P<quoted>.*)(?P=q), please check the\s+stack trace above for the root "
    r"cause"
    r"|Worker \d+ failed to initialize: (?P<worker>.+)",
    re.DOTALL,
)
_BROKEN_LINK = re.compile(
    r"Connection (?:closed by|reset by) peer|Broken pipe|recvValue failed|failed to recv|remote process exited"
    r"|NCCL communicator was aborted|ncclRemoteError|zmq\.error|The actor (?:died unexpectedly|is dead)"
)
"""How the ranks that live notice one that is gone."""

_READY = re.compile(r"(?:INFO: +)?Application startup complete")
_ASKED_TO_STOP = re.compile(r"\[shutdown\] API server: shutdown triggered")
_STOPPING = re.compile(
    r"shut(?:ting)?[ _-]?down|terminat|kill|exit|destroy|clean(?:ing|ed)? ?up|engine dead|abort|died", re.I
)
_DEAD_CORE = re.compile(
    r"EngineCore encountered a fatal error|EngineDeadError|\bdied unexpectedly(?! before)"
    r"|\bdied with exit code|\bdied, exit code"
    r"|MQLLMEngine is already dead|Engine process \(pid \d+\) died"
)
_GROUP = re.compile(r"^(?:\w+\.)*(?:Base)?ExceptionGroup\b")
_DIED = re.compile(
    r"\bdied unexpectedly(?! before)|\bdied with exit code|\bdied, exit code|Failed core proc\(s\): \{"
    r"|A worker died or was killed|Engine process"
)
_EXIT_CODE = re.compile(r"exit code:? (?P<one>-?\d+)|\{[^}]*: (?P<core>-?\d+)")


@dataclass(frozen=True)
class Death:
    """A process that died without a message of its own. `exit_code` as from Popen, None if unknown."""

    exit_code: int | None
    line: int

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it, other than the one by which the engine ends the processes that are left."""
        return self.exit_code is not None and self.exit_code < 0 and self.exit_code != -signal.SIGTERM


@dataclass(frozen=True)
class Findings:
    """What a log says of an engine's end.

    Attributes:
        cause: The root cause; None if no exception, abort or refusal is one.
        remarks: Error lines that may say more where there is no cause, the last one first.
        death: A process that was noticed to be dead and left no cause.
        certain: The cause neither was survived by its process nor follows from the end of another one.
    """

    cause: Message | None
    remarks: tuple[Message, ...]
    death: Death | None
    certain: bool = False


def findings(log: EngineLog) -> Findings:
    """What ended the engine, as far as its log says."""
    relevant = _after_start(log)
    deaths = [death for message in relevant if (death := _death(message)) is not None]
    signalled = next((death for death in deaths if death.was_killed), None)
    own = [cause for message in relevant if (cause := _without_pointers(message)) is not None]
    worked = _last_work(log)
    ranked = sorted(
        ((_rank(message, worked), message) for message in own if message.kind is not Kind.REMARK),
        key=lambda ranked: (ranked[0], ranked[1].first),
    )
    remarks = tuple(reversed([one for one in own if one.kind is Kind.REMARK and not _BROKEN_LINK.search(one.text)]))
    if ranked and (signalled is None or ranked[0][0] is not _Rank.SURVIVED):
        return Findings(ranked[0][1], remarks, None, certain=ranked[0][0] is _Rank.CAUSE)
    if signalled is not None:
        return Findings(None, (), signalled)
    return Findings(_quoted(relevant), remarks, next(iter(deaths), None))


def core_is_dead(log: EngineLog) -> bool:
    """Whether the log says that the engine behind the API server is gone, without having been asked to stop.

    The API server answers for seconds after that, and some versions for ever, every request with HTTP 500.
    """
    return any(_DEAD_CORE.search(f"{message.headline}\n{message.text}") for message in _after_start(log))


def _after_start(log: EngineLog) -> list[Message]:
    """Messages since the engine became ready, if it did, and before it was asked to stop."""
    ready = next((number for number, line in enumerate(log.lines) if _READY.match(line)), -1)
    stopped = next((number for number, line in enumerate(log.lines) if _ASKED_TO_STOP.match(line)), len(log.lines))
    return [message for message in messages(log) if ready < message.first < stopped]


class _Rank(IntEnum):
    """How likely a message is the cause."""

    CAUSE = 0
    CONSEQUENCE = 1
    SURVIVED = 2


def _rank(message: Message, last_work: Mapping[str, int]) -> _Rank:
    if last_work.get(message.process, -1) > message.last:
        return _Rank.SURVIVED
    return _Rank.CONSEQUENCE if _BROKEN_LINK.search(message.text) else _Rank.CAUSE


def _last_work(log: EngineLog) -> Mapping[str, int]:
    """By process, the number of the last line that shows it at work: whatever it reported before, it survived.

    What is written without a process's name proves nothing.
    """
    return {
        line.process: number
        for number, line in enumerate(log.marked)
        if line.process and line.level in ("INFO", "WARNING", "DEBUG") and not _STOPPING.search(line.text)
    }


def _without_pointers(message: Message) -> Message | None:
    """The message with what is its own; None if it only points to another process."""
    if message.kind is Kind.DEATH:
        return None
    if not message.raised:
        return None if _POINTER.search(message.headline) else message
    own = tuple(one for one in message.raised if not _points(one))
    if not own:
        return None
    return replace(message, raised=(replace(own[0], link=""), *own[1:]))


def _points(raised: Raised) -> bool:
    first_line = raised.text.partition("\n")[0]
    return bool(_POINTER.search(first_line) or _QUOTING_POINTER.search(raised.text) or _GROUP.match(first_line))


def _quoted(relevant: list[Message]) -> Message | None:
    """What another process quotes of a cause that is not in the log itself."""
    for message in relevant:
        for one in message.raised:
            found = _QUOTING_POINTER.search(one.text)
            text = (found["quoted"] or found["worker"] or "").strip() if found is not None else ""
            if text:
                return replace(message, raised=(Raised(text),))
    return None


def _death(message: Message) -> Death | None:
    text = message.raised[-1].text if message.raised else message.headline
    if not _DIED.search(text):
        return None
    found = _EXIT_CODE.search(text)
    return Death(int(found["one"] or found["core"]) if found else None, message.last)
