"""The messages of a log: what its processes say went wrong, apart from everything that they only echo.

A rule that looked at the whole log would find its words in the settings that vLLM prints at start, in a usage text or
in a dump of the scheduler. So a log is taken apart first. What counts as a message: a traceback with its chain of
exceptions, an ERROR or CRITICAL line, an abort of a native library, argparse's last line, and the notice that a process
has died. Processes write into one log, and their lines are interleaved; each process is read by itself.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby, takewhile

from haqa_contract.engine_log.lines import EngineLog, Line


class Kind(Enum):
    """What a message is, and so how much it is worth as a cause."""

    EXCEPTION = "exception"
    ABORT = "abort of native code"
    USAGE = "refusal of a command line"
    DEATH = "death of a process, noticed by another one"
    REMARK = "something an error line says, or an exception that a process survives"


@dataclass(frozen=True)
class Raised:
    """One exception of a chain.

    Attributes:
        text: As Python prints it, type and message, without what it echoes of its inputs.
        where: The innermost frame, `linear.py:12 in forward`; empty if the log does not have it.
        link: How it relates to the exception before it in the chain: `from` it, or `during` its handling.
    """

    text: str
    where: str = ""
    link: str = ""

    @property
    def type(self) -> str:
        return re.split(r"[:(\s]", self.text, maxsplit=1)[0]

    @property
    def message(self) -> str:
        return self.text.partition(": ")[2].strip()


@dataclass(frozen=True)
class Message:
    """Something that went wrong in one process.

    Attributes:
        process: As in `Line`.
        headline: The line before the traceback, such as `EngineCore failed to start.`; the text itself of what is no
            exception.
        raised: The chain, the first that was raised first; empty for what is no exception.
        first: Number of its first line in `EngineLog.lines`.
        last: Number of the line that says most: of the last exception, or of the text.
    """

    kind: Kind
    process: str
    headline: str
    raised: tuple[Raised, ...]
    first: int
    last: int

    @property
    def text(self) -> str:
        """What rules are matched with."""
        if not self.raised:
            return self.headline
        return "\n".join(f"{one.text}\n  at {one.where}" if one.where else one.text for one in self.raised)


_Numbered = tuple[int, Line]

_TRACEBACK = re.compile(
    r"^(?:\S.{0,200}[:,] )?(?:Exception Group )?Traceback \(most recent call last\):|^Traceback$"
    r"|^ray::\S+\(\) \(pid=\d+"
)
_REMOTE = re.compile(r"^(?:\w+\.)*RayTaskError(?:\([\w.]+\))?: ray::")
"""What Ray raises for an exception in another process: that one's traceback follows, without a heading of its own."""
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>\S+))?')
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:\([\w.]+\))?(?::(?: |$)|$)")
_BARE = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failure)(?:\([\w.]+\))?(?:: .*)?$"
    r"|^(?:[a-z_]\w*\.)+_?[A-Z]\w*(?<!Warning): .*$"
)
"""An exception whose traceback is not in the log: cut off, or never printed."""
_LINKS = {
    "The above exception was the direct cause of the following exception:": "from",
    "During handling of the above exception, another exception occurred:": "during",
}
_GROUP_BARS = re.compile(r"^\s*(?:\| ?|\+-+ ?\d+ ?-+$|\+-\+-+ ?(?:\d+|\.\.\.) ?-+$|\+-+$|\+ )")
_GROUP = re.compile(r"^(?:\w+\.)*(?:Base)?ExceptionGroup\b")
_HARMLESS_HEADLINE = re.compile(
    r"^Exception ignored in|Task exception was never retrieved|^Exception in thread|Exception in ASGI application"
)
_DESCRIBED = re.compile(r"^(?:future|handle|task|source_traceback|transport|protocol): <")
_MESSAGE_LINES = 40
"""Lines of an exception's message beyond which something else has begun."""

_USAGE = re.compile(
    r"^(?!(?:collect2|gcc|g\+\+|c\+\+|cc1plus|clang\S*|ld|nvcc|make|ninja): )[\w./\-]+(?: (?!-)[\w\-]+){0,3}: error: \S"
)
_ABORT = re.compile(
    r"^terminate called |^Fatal Python error: (?!_enter_buffered_busy|_PyThreadState_Attach)"
    r"|^(?:\[[^\]]*\] \S+: )?\*\*\* SIG[A-Z]+ received|^!+ \w+ encountered !+"
    r"|^(?:free|malloc|realloc|munmap_chunk)\(\): |^double free or corruption|^corrupted |^\*\*\* stack smashing"
    r"|^Memory access fault by GPU node-|^HW Exception by GPU node-|^:\d+:\w+\.cpp +:\d+ *: .*HSA_STATUS_ERROR"
    r"|^\[\S+:\d+:\d+:\d+\] Caught signal \d+ \(|^F\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+:\d+\] "
    r"|^[^\s:]+: [^\s:]+:\d+: .*: Assertion [`'].*' failed\.$"
    r"|^[^=:'\"\[]{0,80}LLVM ERROR: |^Intel MKL FATAL ERROR: |^OMP: Error #|^Inconsistency detected by ld\.so"
    r"|^[^\s=]+: symbol lookup error: |^[^\s=]+: error while loading shared libraries: "
    r"|^\[E\d+ [^\]]*\] .*terminated with exception: |^Failed: (?:Cuda|CUDA|HIP|NCCL|RCCL) error "
    r"|^(?:\(raylet[^)]*\) )?\d+ Workers? .*killed due to memory pressure"
    r"|^(?:(?:/[^\s=]+|[^\s=]+\.sh|bash|sh): (?:line )?\d+: +(?:\d+ )?)?"
    r"(?:Segmentation fault|Illegal instruction|Bus error|Aborted|Killed)(?: +\(core dumped\)|$| +\S*python| +vllm)"
    r"|^(?:/\S*sh|bash|sh): (?:line )?\d+: (?:exec: )?\S*(?:vllm|python\S*): (?:Permission denied"
    r"|(?:command )?not found|cannot)"
    r"|^exec: \S+: |^exec \S+: exec format error"
)
_TORN_ABORT = re.compile(r"^\s*what\(\):  |^std::\w+$")
"""What is left of an abort where a log is cut off at its beginning."""
_HINT = re.compile(
    r"^(?:\[[^\]]*\] )?[\w.\-]+:\d+:\d+ \[\d+\] .*(?:NCCL|RCCL) WARN |^/[^\s=]*ld(?:\.\w+)?: "
    r"|^(?:/\S*sh|bash|sh): (?:line )?\d+: \S+: (?:command )?not found|^/[^\s=]+:\d+:\d+: (?:fatal )?error: "
    r"|^(?:gcc|g\+\+|c\+\+|clang\S*): error: |^nvcc (?:fatal|error)|^ptxas (?:fatal|error)"
)
"""What a native library or a compiler prints before the exception that only says that it failed."""
_NATIVE = re.compile(
    r"(?:NCCL|RCCL)|CalledProcessError|Error building extension|Inductor|CompilationError|collect2|exit status"
)
_DEATH = re.compile(
    r"\bdied unexpectedly(?! before)"
    r"|\bdied with exit code -?\d+|\bdied, exit code: -?\d+|Failed (?:core|frontend) proc\(s\): "
    r"|Engine process \(pid \d+\) died"
    r"|Engine process failed to start|A worker died or was killed"
)
_ECHO = re.compile(r"^Dumping |\bwith config: |\bnon-default args: |\bargs: Namespace\(")
"""Error lines that show settings or state, and no error."""
_END_OF_RAW_MESSAGE = re.compile(
    r"^Process \S+:$|^\S+:\d+: \w*Warning: |^\[[WEIF]\d{4,} |^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):  +"
    r"|^Exception raised from |^Loading safetensors checkpoint shards|^[^|]{0,80}\d+%\|"
    r"|^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ "
)


def messages(log: EngineLog) -> tuple[Message, ...]:
    """All messages of a log, in the order in which they begin."""
    by_process: dict[str, list[_Numbered]] = defaultdict(list)
    for number, line in enumerate(log.marked):
        by_process[line.process].append((number, line))
    found = [message for lines in by_process.values() for message in _of_process(lines)]
    hints = [(number, line.text) for number, line in enumerate(log.marked) if _HINT.search(line.text)]
    return tuple(sorted((_with_hints(message, hints) for message in found), key=lambda message: message.first))


def _of_process(lines: Sequence[_Numbered]) -> Iterator[Message]:
    for (stamp, level), group in groupby(lines, key=lambda numbered: (numbered[1].stamp, _server_level(numbered[1]))):
        block = list(group)
        if stamp and level not in ("ERROR", "CRITICAL"):
            continue
        yield from _of_record(block) if stamp else _of_raw(block)


def _server_level(line: Line) -> str:
    return line.level if line.stamp else ""


def _of_record(block: Sequence[_Numbered]) -> Iterator[Message]:
    """Messages of one logged record of level ERROR or CRITICAL."""
    head = block[0][1].text
    if _ECHO.search(head):
        return
    exceptions = list(_exceptions(block, raw=False))
    yield from exceptions
    if not exceptions:
        whole = takewhile(lambda numbered: not _TRACEBACK.match(numbered[1].text), block[:_MESSAGE_LINES])
        text = "\n".join(line.text for _, line in whole)
        kind = Kind.DEATH if _DEATH.search(head) else Kind.REMARK
        yield Message(kind, block[0][1].process, text, (), block[0][0], block[0][0])


def _of_raw(block: Sequence[_Numbered]) -> Iterator[Message]:
    """Messages among lines that came past the logger: tracebacks, aborts, argparse, uvicorn."""
    exceptions = list(_exceptions(block, raw=True))
    yield from exceptions
    taken = {number for message in exceptions for number in range(message.first, message.last + 1)}
    for index, (number, line) in enumerate(block):
        if number in taken:
            continue
        text = line.text
        if _ABORT.search(text):
            more = takewhile(lambda later: _continues(later[1], raw=True), block[index + 1 : index + 4])
            yield Message(
                Kind.ABORT, line.process, "\n".join([text, *(later.text for _, later in more)]), (), number, number
            )
        elif _TORN_ABORT.match(text):
            yield Message(Kind.ABORT, line.process, text, (), number, number)
        elif _USAGE.match(text):
            yield Message(Kind.USAGE, line.process, text, (), number, number)
        elif line.level in ("ERROR", "CRITICAL") and not _HARMLESS_HEADLINE.search(text):
            yield Message(Kind.REMARK, line.process, text, (), number, number)


def _exceptions(block: Sequence[_Numbered], *, raw: bool) -> Iterator[Message]:
    """Tracebacks and bare exception lines; those that a sentence of Python's links are one message."""
    open_message: Message | None = None
    link = ""
    index = 0
    while index < len(block):
        number, line = block[index]
        text = _without_bars(line.text)
        if text in _LINKS:
            link = _LINKS[text]
            index += 1
            continue
        parsed = _parse(block, index, raw=raw)
        if parsed is None:
            index += 1
            continue
        raised, at, end = parsed
        inside_group = open_message is not None and bool(_GROUP.match(open_message.raised[-1].text))
        if open_message is not None and (link or (inside_group and text != line.text)):
            one = replace(raised, link=link or "in")
            open_message = replace(open_message, raised=(*open_message.raised, one), last=at)
        else:
            if open_message is not None:
                yield open_message
            headline = _headline(block, index)
            kind = Kind.REMARK if _HARMLESS_HEADLINE.search(headline) else Kind.EXCEPTION
            open_message = Message(kind, line.process, headline, (raised,), number, at)
        link = ""
        index = end
    if open_message is not None:
        yield open_message


def _parse(block: Sequence[_Numbered], index: int, *, raw: bool) -> tuple[Raised, int, int] | None:
    """The exception that begins at `index`, the number of its line, and the index behind it; None if there is none."""
    where = ""
    position = index
    text = _without_bars(block[position][1].text)
    traceback = bool(_TRACEBACK.match(text))
    if traceback:
        position += 1
        while position < len(block) and _inside(text := _without_bars(block[position][1].text)):
            frame = _FRAME.match(text)
            where = _place(frame) if frame else where
            position += 1
        if position == len(block) or not _RAISED.match(text):
            return None
    elif not _BARE.match(text):
        return None
    else:
        where = _last_frame(block, index)
    end = position + 1
    while end < len(block) and end - position < _MESSAGE_LINES:
        line = block[end][1]
        # Behind the first line a message may begin anew: the hub's errors have a request's number there.
        paragraph = raw and line.paragraph and end > position + 1
        if paragraph or not _continues(line, raw=raw):
            break
        end += 1
    lines = [text, *(_without_bars(line.text) for _, line in block[position + 1 : end])]
    return Raised(_without_echo("\n".join(lines)), where), block[position][0], end


def _headline(block: Sequence[_Numbered], index: int) -> str:
    """What stands before a traceback, apart from the objects that asyncio describes there."""
    before = (line.text for _, line in reversed(block[max(0, index - 3) : index]))
    return next((text for text in before if not _DESCRIBED.match(text)), "")


def _last_frame(block: Sequence[_Numbered], index: int) -> str:
    """Where an exception was raised whose traceback has lost its beginning."""
    before = takewhile(lambda numbered: numbered[1].text[:1].isspace(), reversed(block[max(0, index - 4) : index]))
    frame = next((frame for _, line in before if (frame := _FRAME.match(line.text))), None)
    return _place(frame) if frame else ""


def _inside(text: str) -> bool:
    """Whether a line stands between a traceback's heading and its exception."""
    return text[:1].isspace() or bool(_REMOTE.match(text))


def _continues(line: Line, *, raw: bool) -> bool:
    """Whether a line still belongs to the message before it."""
    text = line.text
    bare = _without_bars(text)
    if bare in _LINKS or _TRACEBACK.match(bare) or bare != text:
        return False
    if not raw:
        return True
    return not (_END_OF_RAW_MESSAGE.match(text) or _BARE.match(text) or _ABORT.search(text))


def _without_bars(text: str) -> str:
    """Without the bars that an exception group draws before the lines of its members."""
    while (bars := _GROUP_BARS.match(text)) is not None:
        text = text[bars.end() :]
    return text


def _place(frame: re.Match[str]) -> str:
    path = re.split(r"(?:site|dist)-packages/|/python3\.\d+/", frame["file"])[-1]
    return f"{path}:{frame['line']}" + (f" in {frame['function']}" if frame["function"] else "")


_ECHOES = (
    (re.compile(r"\n(?:CUDA|HIP|XPU) kernel errors might be asynchronously reported[^\n]*"), ""),
    (re.compile(r"\nSearch for `\w+' in https?://[^\n]*"), ""),
    (re.compile(r"\nFor debugging consider passing \w+=\d[^\n]*"), ""),
    (re.compile(r"\nCompile with `TORCH_USE_\w+` to enable[^\n]*"), ""),
    (re.compile(r"\nDevice-side assertion tracking was not enabled by user\.[^\n]*"), ""),
    (re.compile(r"\nSet TORCH\w+=[^\n]*"), ""),
    (
        re.compile(
            r"\nYou can suppress this exception and fall back to eager[^\n]*(?:\n +import torch[^\n]*\n +torch[^\n]*)?"
        ),
        "",
    ),
    (re.compile(r"\s*\[type=\w+, input_value=[^\n]*"), ""),  # pydantic
    (re.compile(r"\n\s*For further information visit [^\n]*"), ""),
    (re.compile(r"""(Command )(?:'\['|')([^\s',]+)[^\n]*?(?:'\]'|')( (?:returned|died|timed out))"""), r"\1'\2'\3"),
)


_TUPLE = re.compile(r"^(?P<type>[A-Za-z_][\w.]*: )(?P<parts>\((?:'[^\n]*'|\"[^\n]*\"),? ?\))(?=\n|$)")


def _without_echo(text: str) -> str:
    """Without the values and command lines that an exception repeats, which are settings and no cause, and torch's
    advice for its developers; and as one sentence, where somebody raised its parts."""
    for echo, kept in _ECHOES:
        text = echo.sub(kept, text)
    return _TUPLE.sub(lambda match: match["type"] + _joined(match["parts"]), text)


def _joined(parts: str) -> str:
    try:
        read = ast.literal_eval(parts)
    except (ValueError, SyntaxError):
        return parts
    return "".join(read) if all(isinstance(part, str) for part in read) else parts


def _with_hints(message: Message, hints: Sequence[tuple[int, str]]) -> Message:
    """An exception that only says that something native failed, with what that printed before it."""
    before = [text for number, text in hints if number < message.last]
    if not before or not message.raised or not _NATIVE.search(message.raised[-1].text):
        return message
    said = "\n".join(dict.fromkeys(before[-5:]))
    last = message.raised[-1]
    return replace(message, raised=(*message.raised[:-1], replace(last, text=f"{last.text}\n{said}")))
