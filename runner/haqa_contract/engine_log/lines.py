"""What a vLLM log says: how far loading is, and what the engine chose. Texts are those of vLLM 0.32."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

TAIL_LINES = 10
LINE_LIMIT = 240
"""Characters of a line in a report: the whole report has to fit a 4 KiB termination message."""

_LONGEST_LINE = 20_000
"""Characters of a line that are read; the configuration that vLLM prints has some 5,000."""

_COLOUR = re.compile(r"(?:\x1b|\^\[)\[[0-9;]*[A-Za-z]|\[(?:\d{1,2};)?\d{1,2}m(?=[(\s]|[A-Z]{4,8} )")
"""Also as `cat -v` shows them, and without the escape character, which some collectors take out."""
_COLLECTOR = re.compile(
    r"^(?:[>│] ?)*"  # quoted in a mail or an issue, or copied out of k9s
    r"(?:\[pod/[^\]\s]+\] )?"  # kubectl --prefix
    r"(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)(?: (?:std(?:out|err) [FP] )?|(?=$)))?"  # --timestamps, CRI
    r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: |$))?"  # Docker Desktop
    r"(?:[A-Za-z][\w.-]*\s+\| ?)?"  # docker compose
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [\w.\-@]+\[\d+\]: ?)?"  # journald, syslog
)
_NAME = r"(?:[^()]|\((?:[^()]|\([^()]*\))*\)){0,80}?\bpid=\d+[^()]{0,40}"
_PREFIX = re.compile(
    r"^(?:\[rank\d+\]: ?)?"
    rf"(?:\({_NAME}\) (?=\([^\n]{{0,80}}\bpid=\d))*"  # of the process that passes the line on
    rf"(?:\((?P<process>{_NAME})\) ?)?"
    r"(?:\[rank\d+\]: ?)?"
    r"(?:(?P<stamp>(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    r"\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)? (?:\[[^\]]*\]|\S+:\d+\])) ?)?"
)
_SERVER = re.compile(r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):  +")
"""How uvicorn begins its lines."""
_SETTING = re.compile(r"^--(?P<name>[\w-]+)(?:=(?P<value>.*))?$")


@dataclass(frozen=True)
class Line:
    """One line of a log.

    Attributes:
        process: Which process wrote it, as vLLM marks it (`EngineCore pid=7`); empty where it does not.
        level: `ERROR` and so on; empty for what came past the logger.
        stamp: Level, time and place, the same for all lines of one logged message; empty like `level`.
        text: What is left without all that.
        paragraph: Whether a blank line stands before it.
    """

    process: str
    level: str
    stamp: str
    text: str
    paragraph: bool


@dataclass(frozen=True)
class EngineLog:
    """A log with what is needed to read it. `args` are the engine's command-line arguments."""

    text: str
    exit_code: int | None
    args: tuple[str, ...] = ()

    @cached_property
    def marked(self) -> tuple[Line, ...]:
        """Without carriage-return progress bars, colours, collectors' prefixes and blank lines."""
        last_drawn = (line.rstrip("\r").rpartition("\r")[-1] for line in _out_of_json(self.text.split("\n")))
        kept: list[Line] = []
        paragraph = False
        for text in last_drawn:
            line = _line(text, paragraph)
            paragraph = not line.text.strip()
            if not paragraph:
                kept.append(line)
        return tuple(kept)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The texts alone, without vLLM's prefixes."""
        return tuple(line.text for line in self.marked)

    @cached_property
    def bare(self) -> str:
        return "\n".join(self.lines)

    def setting(self, name: str) -> str | None:
        """The value of the argument `--name`, None if it is not given."""
        return setting(self.args, name)

    def tail(self, last: int | None = None) -> tuple[str, ...]:
        """The last lines, or those that end with number `last` of `lines`; shortened."""
        end = len(self.lines) if last is None else last + 1
        return tuple(line[:LINE_LIMIT] for line in self.lines[max(0, end - TAIL_LINES) : end])


def _out_of_json(lines: Sequence[str]) -> Iterator[str]:
    """Lines as the process wrote them, where Docker or a logging configuration made JSON of them."""
    for line in lines:
        record = _record(_COLLECTOR.sub("", line, count=1))
        if record is None:
            yield line
            continue
        docker = record.get("log")
        if isinstance(docker, str):
            yield from _out_of_json((docker.rstrip("\n"),))
            continue
        level = next((str(record[key]).upper() for key in _JSON_LEVELS if key in record), "INFO")
        stamp = f"{level if level in _LEVELS else 'INFO'} 01-01 00:00:00 [json:0] "
        parts = (record.get(key) for key in (*_JSON_MESSAGES, *_JSON_TRACEBACKS))
        for text in dict.fromkeys(part for part in parts if isinstance(part, str)):
            yield from (stamp + one for one in text.split("\n"))


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_JSON_LEVELS = ("level", "levelname", "severity", "log_level")
_JSON_MESSAGES = ("message", "msg", "event")
_JSON_TRACEBACKS = ("exc_info", "exception", "stack_trace", "stack")


def _record(line: str) -> dict[str, object] | None:
    if not line.startswith("{") or not line.rstrip().endswith("}"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = ("log", *_JSON_MESSAGES)
    return record if isinstance(record, dict) and any(isinstance(record.get(key), str) for key in known) else None


def _line(text: str, paragraph: bool) -> Line:
    bare = _COLLECTOR.sub("", _COLOUR.sub("", text[:_LONGEST_LINE]), count=1)
    found = _PREFIX.match(bare)
    process, stamp, level = (found["process"], found["stamp"], found["level"]) if found else (None, None, None)
    rest = (bare[found.end() :] if found else bare).rstrip(" \t\r│")
    if level is None and (server := _SERVER.match(rest)):
        level = server["level"]
    return Line(process or "", level or "", stamp or "", rest, paragraph)


def setting(args: Sequence[str], name: str) -> str | None:
    """The value of `--name` among command-line arguments, however it was written; None if it is not given."""
    for i, argument in enumerate(args):
        match = _SETTING.match(argument)
        if match and match["name"].replace("_", "-") == name:
            return match["value"] if match["value"] is not None else next(iter(args[i + 1 : i + 2]), None)
    return None


_STAGES: tuple[tuple[str, float, str], ...] = (
    ("Application startup complete", 1.0, "ready"),
    ("Starting vLLM server", 0.98, "opening the port"),
    ("KV cache size:", 0.9, "warming up"),
    ("Loading weights took", 0.8, "preparing the KV cache"),
    ("Starting to load model", 0.7, "loading the weights"),
    ("Initializing a V1 LLM engine", 0.45, "starting the workers"),
    ("non-default args", 0.25, "starting the engine core"),
)


def loading_stage(log_text: str) -> tuple[float, str]:
    """How far loading is: share of the usual start-up time, and what it is doing."""
    for marker, done, message in _STAGES:
        if marker in log_text:
            return done, message
    return 0.05, "importing vLLM"


def kv_cache_tokens(log_text: str) -> int | None:
    """Tokens that the KV cache holds, over all ranks of the last engine that logged it."""
    found = re.findall(r"KV cache size: ([\d,]+) tokens", log_text)
    return int(found[-1].replace(",", "")) if found else None


_NOTE = re.compile(
    r"^Using \S+ (?:for|kernel|backend|attention)[^\n]*|^Using [^\n]* (?:backend|kernel|GEMM|linear)\b[^\n]*"
    r"|^Resolved architecture[^\n]*|^Reducing Torch threads[^\n]*|^\S+ is not found in LD_PRELOAD"
    r"|^\s*local_rank=[^\n]*core ids=[^\n]*|^\s*VLLM_CPU_OMP_THREADS_BIND=[^\n]*|^Enforce eager set"
    r"|^\w+ KV cache size:[^\n]*|^Chunked prefill is enabled[^\n]*|^Cudagraph is disabled[^\n]*"
    r"|^Using max model len[^\n]*",
    re.MULTILINE,
)
_ENGINE_CONFIG = re.compile(r"Initializing a V1 LLM engine[^\n]*")
_CONFIG_KEYS = (
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "enforce_eager",
    "enable_prefix_caching",
    "enable_chunked_prefill",
)
_NOTES_LIMIT = 16


def engine_notes(log_text: str) -> tuple[str, ...]:
    """The lines that say which kernels, types, threads and cache the engine settled on; each once."""
    log = EngineLog(log_text, None)
    notes: list[str] = []
    config = _ENGINE_CONFIG.search(log.bare)
    if config is not None:
        chosen = [found[0] for key in _CONFIG_KEYS if (found := re.search(rf"\b{key}=[^,\s]+", config[0]))]
        notes.append(" ".join(chosen))
    notes += [found[0].strip()[:LINE_LIMIT] for found in _NOTE.finditer(log.bare)]
    return tuple(dict.fromkeys(note for note in notes if note))[:_NOTES_LIMIT]
