"""Why an engine ended, read from its log.

vLLM reports a failed start as up to three stack traces, one per process, of which the last says only "see root cause
above". `messages.py` takes the log apart, `causes.py` finds the root cause, and rules (`rules.py`) turn it into a
sentence with the value and the remedy; a cause that no rule knows is quoted.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from haqa_contract.engine_log.causes import Death, Findings, core_is_dead, findings
from haqa_contract.engine_log.lines import LINE_LIMIT, EngineLog, loading_stage
from haqa_contract.engine_log.messages import Message, Raised
from haqa_contract.engine_log.rules import rules_for
from haqa_contract.failures import Failure, FailureReason, shortened

_MESSAGE_LIMIT = 900
_QUOTE_LIMIT, _CAUSE_LIMIT = 420, 220
_TERSE = 40
"""Characters of a message that say little without the place where it was raised, such as `KeyError: 'x'`."""

_TRACE = "Traceback (most recent call last):"
_TRACEBACK_LINE = re.compile(rf".*{re.escape(_TRACE)}|\s")
_MORE_MEMORY = (
    ", most likely because the machine or its container ran out of memory; give it more, or set a smaller KV cache "
    "(VLLM_CPU_KVCACHE_SPACE, gpu-memory-utilization) or max-model-len"
)
_SIGNALS: dict[int, str] = {
    signal.SIGILL: " (illegal instruction: this build of vLLM needs a newer CPU)",
    signal.SIGABRT: " (abort)",
    signal.SIGBUS: " (bus error: /dev/shm may be too small)",
    signal.SIGSEGV: " (segmentation fault)",
    signal.SIGTERM: " (it was asked to stop)",
}

OUT_OF_MEMORY_EXITS = (-9, 137)
"""SIGKILL, as Popen and as a shell or a container report it: only the kernel and the kubelet send it."""


def diagnose(log_text: str, exit_code: int | None, args: Sequence[str] = ()) -> Failure:
    """Why the engine ended, in one or two sentences with the remedy; never a stack trace alone.

    Args:
        log_text: Standard output and error of the engine, as they came.
        exit_code: As from Popen (-9 for SIGKILL) or a container (137); None if it did not end.
        args: The arguments it was started with.
    """
    log = EngineLog(log_text, exit_code, tuple(args))
    found = findings(log)
    known = _known(log, found)
    killed = found.cause is None and exit_code in OUT_OF_MEMORY_EXITS
    if known is not None and not (killed and known.reason is not FailureReason.ENGINE_OOM):
        return known
    if found.cause is not None:
        return _quoted(log, found.cause)
    if killed:
        return _failure(FailureReason.ENGINE_OOM, f"the engine was killed (exit code {exit_code}){_MORE_MEMORY}", log)
    if found.death is not None:
        return _of_death(log, found.death)
    if found.remarks:
        return _quoted(log, found.remarks[0])
    line = next((line for line in reversed(log.lines) if not _TRACEBACK_LINE.match(line)), None)
    last = f"; the last line of its log: {line[:400]}" if line else " before it wrote a line"
    return _failure(FailureReason.ENGINE_LOAD_FAILED, f"the engine {_ended(log)} without saying why{last}", log)


def core_death(log_text: str, args: Sequence[str] = ()) -> Failure | None:
    """Why the engine behind a running API server has died; None while the log does not say that it has."""
    return diagnose(log_text, None, args) if core_is_dead(EngineLog(log_text, None)) else None


def did_not_start(log_text: str, limit_s: float, args: Sequence[str] = ()) -> Failure:
    """The engine still runs but has not answered /health within `limit_s` seconds.

    One of its processes may have failed while the others wait for it. Only a known cause counts as that: an unknown
    exception may have been survived, or come from stopping the engine.
    """
    log = EngineLog(log_text, None, tuple(args))
    found = findings(log)
    cause = _known(log, found) if found.certain else None
    if cause is not None:
        hung = f"; the rest of the engine hung after that and did not answer /health within {limit_s:g} s"
        return cause.model_copy(update={"message": cause.message[: _MESSAGE_LIMIT - len(hung)] + hung})
    last = log.lines[-1][:LINE_LIMIT] if log.lines else "nothing"
    return _failure(
        FailureReason.TIMEOUT,
        f"the engine did not answer /health within {limit_s:g} s; it was at: {loading_stage(log_text)[1]}. The last "
        f"line of its log: {last}. Raise the start-up limit if the model is large or its disk slow",
        log,
    )


def _known(log: EngineLog, found: Findings) -> Failure | None:
    """What a rule says of the cause, or, where there is none, of the last error line that a rule knows."""
    for message in (found.cause,) if found.cause is not None else found.remarks:
        for text in (message.text, _one_line(message.text)):  # the second for what was wrapped on its way here
            for rule in rules_for(message):
                match = rule.pattern.search(text)
                if match is not None:
                    known = _failure(rule.reason, rule.sentence(match, log), log, message.last)
                    return known.model_copy(update={"of_configuration": rule.of_configuration})
    return None


def _quoted(log: EngineLog, message: Message) -> Failure:
    text = f"the engine {_ended(log)}: {_quotation(message)}"
    if message.raised:
        text += "; its log has the traceback"
    return _failure(FailureReason.ENGINE_LOAD_FAILED, text, log, message.last)


def _quotation(message: Message) -> str:
    """The exception that ended the process, with the one that led to it."""
    if not message.raised:
        return shortened(_own_words(re.sub(r"\n\s*what\(\): +", ": ", message.headline)), _QUOTE_LIMIT)
    last = message.raised[-1]
    quotation = _exception(last, _QUOTE_LIMIT)
    first = message.raised[0]
    if first is last or first.message == last.message:
        return quotation
    how = "while handling" if message.raised[1].link == "during" else "because of"
    return f"{quotation} ({how} {_exception(first, _CAUSE_LIMIT)})"


def _exception(raised: Raised, limit: int) -> str:
    text = shortened(_own_words(raised.text), limit)
    if raised.where and len(raised.message) < _TERSE:
        return f"{text} at {raised.where}"
    return text


def _own_words(text: str) -> str:
    """What an error says of itself: processes that write at once tear each other's lines, and a trace joins it."""
    before, _, after = _one_line(text).partition(_TRACE)
    return before.rstrip() or after


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _of_death(log: EngineLog, death: Death) -> Failure:
    code = death.exit_code
    if code is None and not any(line.level in ("DEBUG", "INFO", "WARNING") for line in log.marked[: death.line]):
        message = (
            "a process of the engine ended, and the beginning of its log, where it says why, is missing here; read the "
            "whole log of the container"
        )
        return _failure(FailureReason.ENGINE_LOAD_FAILED, message, log, death.line)
    if code is None or code == -signal.SIGKILL:
        how = "was killed (SIGKILL)" if code is not None else "ended without an error message"
        return _failure(FailureReason.ENGINE_OOM, f"a process of the engine {how}{_MORE_MEMORY}", log, death.line)
    if code == 0 or code > 0:
        message = f"a process of the engine ended with exit code {code} without saying why"
    else:
        message = (
            f"a process of the engine crashed: signal {-code}{_SIGNALS.get(signal.Signals(-code), '')}; leave this "
            "configuration out, or use another vLLM version"
        )
    return _failure(FailureReason.ENGINE_LOAD_FAILED, message, log, death.line)


def _failure(reason: FailureReason, message: str, log: EngineLog, last: int | None = None) -> Failure:
    # What a rule quotes may be torn too; the remedy behind it stays.
    quoted = _one_line(message).replace(_TRACE, "…")
    return Failure(reason=reason, message=quoted[:_MESSAGE_LIMIT], log_tail=log.tail(last))


def _ended(log: EngineLog) -> str:
    code = log.exit_code
    if code is None:
        return "ended"
    number = -code if code < 0 else code - 128
    if code < 0 or 128 < code <= 128 + 64:
        return f"died of signal {number}{_SIGNALS.get(number, '')}"
    return f"ended with exit code {code}"
