"""Fuzzes what reads input from outside, one target after the other: `make fuzz SECONDS=60`.

A table says how many inputs were tried and what was found. An input that was found belongs into a test of the reader,
beside the mend.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.targets import TARGETS

_STARTING_S = 300


def main() -> int:
    """Exit status: 1 = something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", nargs="*", default=list(TARGETS), help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    parser.add_argument("--out", type=Path, default=Path(".cache/fuzz"), help="inputs are kept here and built upon")
    asked = parser.parse_args()
    if unknown := set(asked.target) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    print("| target | inputs | seconds | kept | found |\n|---|---|---|---|---|", flush=True)
    return int(any([_fuzzed(name, asked.out / name, asked.seconds) for name in asked.target]))


def _fuzzed(name: str, folder: Path, seconds: int) -> bool:
    """Whether something was found."""
    folder.mkdir(parents=True, exist_ok=True)
    began, before = time.monotonic(), _found(folder)
    log = folder / "log.txt"
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", name, str(folder), str(seconds)],
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=seconds + _STARTING_S,
            check=False,
        )
    tried = re.findall(r"number_of_executed_units: (\d+)", log.read_text(errors="replace"))
    found = sorted(_found(folder) - before)
    what = ", ".join(found) or (f"it ended with {done.returncode}, see {log}" if done.returncode else "nothing")
    kept = sum(1 for _ in (folder / "corpus").glob("*"))
    inputs = f"{int(tried[-1]):,}" if tried else "?"
    print(f"| {name} | {inputs} | {time.monotonic() - began:.0f} | {kept} | {what} |", flush=True)
    return bool(found or done.returncode)


def _found(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.is_file() and file.name != "log.txt"}


if __name__ == "__main__":
    sys.exit(main())
