"""`haqa doctor`: what this machine has for tuning, what is missing, and what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from haqa_operator.api import SpecError
from haqa_operator.hardware.this_machine import detect
from haqa_operator.local.environments import (
    Environment,
    engine_version,
    preloads,
    runner_environment,
    serving_environment,
)

TESTED_ENGINE = "0.32"
"""vLLM minor version that settings, feasibility rules and log reading were checked with."""
DISK_GIB = 5.0
TORCH_LIMIT_S = 120.0


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked; `remedy` says what to do where it is not ok."""

    what: str
    level: Level
    found: str
    remedy: str = ""


def examine(directory: Path) -> list[Finding]:
    """Looks at everything a local tuning needs. Changes nothing; starts torch where there is an accelerator."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _machine,
        lambda: _environment(runner_environment(), "quantizing and measuring"),
        lambda: _environment(serving_environment(), "serving"),
        _engine,
        _torch,
        _compiler,
        lambda: _disk(directory),
        _allocator,
        _agent_key,
    ]
    return [finding for check in checks for finding in check()]


def _machine() -> Iterator[Finding]:
    try:
        accelerator = detect(os.environ, None)
    except (OSError, SpecError, ValueError) as error:
        yield Finding("hardware", Level.MISSING, str(error), "name it in nodePools[].hardware")
        return
    yield Finding("hardware", Level.OK, accelerator.describe())


def _environment(environment: Environment, purpose: str) -> Iterator[Finding]:
    what = f"{environment.role} environment ({purpose})"
    remedy = f"run `make envs`, or set {environment.variable} to the interpreter of an environment that has it"
    if not environment.exists:
        yield Finding(what, Level.MISSING, f"{environment.python} does not exist", remedy)
    elif missing := environment.missing():
        yield Finding(what, Level.MISSING, f"{environment.python} lacks {', '.join(missing)}", remedy)
    else:
        versions = ", ".join(f"{name} {version}" for name, version in environment.versions().items())
        yield Finding(what, Level.OK, versions)


def _engine() -> Iterator[Finding]:
    version = engine_version(serving_environment())
    if version is not None and not version.startswith(f"{TESTED_ENGINE}."):
        yield Finding(
            "vLLM version",
            Level.NOTE,
            f"{version}; HAQA was checked with {TESTED_ENGINE}",
            "expect settings and log messages that HAQA does not know; `make envs` installs the checked version",
        )


def _torch() -> Iterator[Finding]:
    """Whether the torch that quantizes can use this machine's accelerators, by the runner itself."""
    try:
        accelerator = detect(os.environ, None)
    except (OSError, SpecError, ValueError):
        return  # said already
    environment = runner_environment()
    if accelerator.is_cpu or environment.missing():
        return
    what = f"torch ({environment.role} environment, on the accelerator)"
    command = (str(environment.python), "-m", "haqa_runner.quantize.device", accelerator.vendor.value)
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(what, Level.MISSING, f"it does not start: {error}", "run `make envs` again")
        return
    said, complaint = asked.stdout.strip(), asked.stderr.strip()
    if asked.returncode:
        remedy = "" if said else "run `make envs` again"
        yield Finding(what, Level.MISSING, said or (complaint.splitlines() or ["it says nothing"])[-1], remedy)
    else:
        yield Finding(what, Level.OK, said)


def _compiler() -> Iterator[Finding]:
    """Triton builds a module against Python's headers before its first kernel on an accelerator."""
    try:
        accelerator = detect(os.environ, None)
    except (OSError, SpecError, ValueError):
        return  # said already
    if accelerator.is_cpu:
        return
    what = "C compiler (for Triton, on the accelerator)"
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        yield Finding(
            what,
            Level.MISSING,
            "neither gcc nor clang is on the PATH, and CC names none",
            "apt-get install gcc libc6-dev; until then vLLM may not start and quantizing is slower",
        )
    elif without := [e.role for e in (runner_environment(), serving_environment()) if not e.has_headers()]:
        yield Finding(
            what,
            Level.MISSING,
            f"{compiler}, but Python.h is missing for the Python of the environments {' and '.join(without)}",
            "apt-get install python3-dev; until then vLLM may not start and quantizing is slower",
        )
    else:
        yield Finding(what, Level.OK, compiler)


def _disk(directory: Path) -> Iterator[Finding]:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    level = Level.OK if free_gib >= DISK_GIB else Level.NOTE
    remedy = (
        "" if level is Level.OK else f"a tuning keeps one artifact a scheme; choose an --out with over {DISK_GIB:g} GiB"
    )
    yield Finding("disk", level, f"{free_gib:.0f} GiB free in {existing}", remedy)


def _allocator() -> Iterator[Finding]:
    """vLLM's CPU guide recommends tcmalloc by LD_PRELOAD."""
    found = [path for path in preloads(serving_environment(), {}) if "tcmalloc" in path]
    if found:
        yield Finding("tcmalloc", Level.OK, f"{found[0]}; a search tries it by itself")
    else:
        yield Finding(
            "tcmalloc",
            Level.NOTE,
            "not installed; vLLM on CPU is often faster with it",
            "optional: apt-get install libtcmalloc-minimal4",
        )


def _agent_key() -> Iterator[Finding]:
    named = [name for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY") if os.environ.get(name)]
    if named:
        yield Finding("agent", Level.OK, f"{', '.join(named)} set; name a model in search.agent.model")
    else:
        yield Finding(
            "agent",
            Level.NOTE,
            "no key of a commercial LLM in the environment",
            "optional: without search.agent the `bayesian` strategy proposes",
        )
