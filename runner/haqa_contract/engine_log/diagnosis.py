"""Why an engine ended, read from its log.

vLLM reports a failed start as up to three stack traces, one per process, of which the last says only "see root cause
above". `diagnose` finds the root cause and turns it into a sentence with the value and the remedy. It is a list of
rules tried in order, most specific first (`rules.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from haqa_contract.engine_log.lines import LINE_LIMIT, EngineLog, loading_stage
from haqa_contract.engine_log.rules import RULES
from haqa_contract.failures import Failure, FailureReason

_MESSAGE_LIMIT = 900
_EXCEPTION = re.compile(
    r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failure))(?:: (?P<text>.*))?$"
)
_NOT_A_CAUSE = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|Executor failed|cancelled|EngineDeadError"
    r"|resource_tracker"
)

_SILENT_DEATH = re.compile(r"Engine core initialization failed|Worker proc \S+ died unexpectedly")
_MORE_MEMORY = (
    ", most likely because the machine or its container ran out of memory; give it more, or set a smaller KV cache "
    "(VLLM_CPU_KVCACHE_SPACE, gpu-memory-utilization) or max-model-len"
)
_SIGNALS = {
    4: " (illegal instruction: this build of vLLM needs a newer CPU)",
    6: " (abort)",
    7: " (bus error: /dev/shm may be too small)",
    11: " (segmentation fault)",
}

OUT_OF_MEMORY_EXITS = (-9, 137)
"""SIGKILL, as Popen and as a shell or a container report it: nobody but the kernel or the kubelet sends it."""


def diagnose(log_text: str, exit_code: int | None, args: Sequence[str] = ()) -> Failure:
    """Why the engine ended, in one or two sentences with the remedy; never a stack trace alone.

    Args:
        log_text: Standard output and error of the engine, as they came.
        exit_code: As from Popen (-9 for SIGKILL) or a container (137); None if it did not end.
        args: The arguments it was started with.
    """
    log = EngineLog(log_text, exit_code, tuple(args))
    for rule in RULES:
        match = rule.pattern.search(log.bare)
        if match is not None:
            return _failure(rule.reason, rule.sentence(match, log), log, until=match.end())
    if exit_code in OUT_OF_MEMORY_EXITS:
        return _failure(FailureReason.ENGINE_OOM, f"the engine was killed (exit code {exit_code}){_MORE_MEMORY}", log)
    cause = _last_exception(log)
    if cause is None and _SILENT_DEATH.search(log.bare):
        what = "a process of the engine ended without a word"
        return _failure(FailureReason.ENGINE_OOM, f"{what}{_MORE_MEMORY}", log)
    return _failure(FailureReason.ENGINE_LOAD_FAILED, _unknown_cause(log, cause), log)


def did_not_start(log_text: str, limit_s: float) -> Failure:
    """The engine still runs but has not answered /health within `limit_s` seconds."""
    log = EngineLog(log_text, None)
    last = log.lines[-1][:LINE_LIMIT] if log.lines else "nothing"
    return _failure(
        FailureReason.TIMEOUT,
        f"the engine did not answer /health within {limit_s:g} s; it was at: {loading_stage(log_text)[1]}. The last "
        f"line of its log: {last}. Raise the start-up limit if the model is large or its disk slow",
        log,
    )


def _failure(reason: FailureReason, message: str, log: EngineLog, until: int | None = None) -> Failure:
    return Failure(reason=reason, message=" ".join(message.split())[:_MESSAGE_LIMIT], log_tail=log.tail(until))


def _last_exception(log: EngineLog) -> str | None:
    """The last line that names an exception, except those that only say that another process had one."""
    causes = (line for line in reversed(log.lines) if _EXCEPTION.match(line) and not _NOT_A_CAUSE.search(line))
    return next(causes, None)


def _unknown_cause(log: EngineLog, cause: str | None) -> str:
    how = "ended" if log.exit_code is None else _exit_words(log.exit_code)
    if cause is not None:
        return f"the engine {how}: {cause[:600]}; its log has the traceback"
    last = f"; the last line of its log: {log.lines[-1][:400]}" if log.lines else " before it wrote a line"
    return f"the engine {how} without saying why{last}"


def _exit_words(exit_code: int) -> str:
    signal_number = -exit_code if exit_code < 0 else exit_code - 128
    if exit_code < 0 or 128 < exit_code <= 128 + 64:
        return f"died of signal {signal_number}{_SIGNALS.get(signal_number, '')}"
    return f"ended with exit code {exit_code}"
