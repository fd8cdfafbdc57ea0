"""What a test has told the stubs to do, read from a folder that it shares with their pods while they run.

`behaviour.json` holds a list of steps that wait (`hold`), and for configurations, named by a scheme or by one of their
settings (`max-num-seqs=3`), how a step misbehaves: {"hold": ["measure"], "max-num-seqs=3": {"engine": "oom"}}.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

FILE = Path("/behaviour/behaviour.json")
ENGINE_LOGS = Path("/engine-logs")
"""Logs of real engines that did not start."""
_CHUNK_BYTES = 16 * 2**20
_FILLED_BYTES = 480 * 2**20


def told() -> dict[str, Any]:
    try:
        behaviour: dict[str, Any] = json.loads(FILE.read_text())
        return behaviour
    except (FileNotFoundError, ValueError):  # a file that is being replaced
        return {}


def hold(step: str) -> None:
    while step in told().get("hold", []):
        time.sleep(0.1)


def wait(configuration: dict[str, Any], step: str) -> None:
    """Like `hold`, of some configurations alone: a misbehaviour that is called `wait`."""
    while misbehaviour(configuration, step) == "wait":
        time.sleep(0.1)


def misbehaviour(configuration: dict[str, Any], step: str) -> str:
    names = {configuration["scheme"], *(f"{name}={value}" for name, value in configuration.get("engine", []))}
    chosen = told()
    return str(next((chosen[name][step] for name in sorted(names & chosen.keys()) if step in chosen[name]), ""))


def run_out_of_memory() -> None:
    """Writes to memory until the kernel ends this process."""
    print("allocating without end", flush=True)
    kept = []
    while True:
        kept.append(bytearray(b"x" * _CHUNK_BYTES))


def hang() -> None:
    print("waiting for ever", flush=True)
    while True:
        time.sleep(1)


def fill_disk() -> None:
    """Writes to the pod's scratch folder, far beyond what a namespace may allow, and waits to be evicted."""
    with Path("/tmp/filling").open("wb") as file:
        for _ in range(_FILLED_BYTES // _CHUNK_BYTES):
            file.write(b"x" * _CHUNK_BYTES)
    hang()


def end_like(log: str) -> None:
    """As a real engine did, of which this is the log."""
    sys.stdout.write((ENGINE_LOGS / log).read_text())
    sys.stdout.flush()
    sys.exit(1)
