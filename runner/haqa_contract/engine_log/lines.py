"""What a vLLM log says: how far loading is, and what the engine chose. Texts are those of vLLM 0.32."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

TAIL_LINES = 10
LINE_LIMIT = 240
"""Characters of a line in a report: the whole report has to fit a 4 KiB termination message."""

_PREFIX = re.compile(
    r"^(\([\w.\-]+ pid=\d+\)\s?)?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?"
)
_SETTING = re.compile(r"^--(?P<name>[\w-]+)(?:=(?P<value>.*))?$")


@dataclass(frozen=True)
class EngineLog:
    """A log with what is needed to read it. `args` are the engine's command-line arguments."""

    text: str
    exit_code: int | None
    args: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """Without vLLM's prefixes, carriage-return progress bars and blank lines."""
        last_drawn = (line.rstrip("\r").rpartition("\r")[-1] for line in self.text.split("\n"))
        bare = (_PREFIX.sub("", line).rstrip() for line in last_drawn)
        return tuple(line for line in bare if line.strip())

    @cached_property
    def bare(self) -> str:
        return "\n".join(self.lines)

    def setting(self, name: str) -> str | None:
        """The value of the argument `--name`, None if it is not given."""
        return setting(self.args, name)

    def tail(self, until: int | None = None) -> tuple[str, ...]:
        """The last lines, or those that end with the one at character `until` of `bare`; shortened."""
        end = self.bare.find("\n", until) if until is not None else -1
        text = self.bare[:end] if end >= 0 else self.bare
        return tuple(line[:LINE_LIMIT] for line in text.splitlines()[-TAIL_LINES:])


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
