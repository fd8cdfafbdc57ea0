"""Fuzzes one target until its time is over or something is found: `python -m tests.fuzz.one TARGET FOLDER SECONDS`.

What is found stays in FOLDER as `crash-…`, `timeout-…` or `oom-…`, inputs that reach new code in FOLDER/corpus.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["haqa_contract", "haqa_operator"]):
    from tests.fuzz.targets import TARGETS

_SLOW_S = 10
"""An input that takes longer is a finding: somebody could stop an operator with it."""
_MEMORY_MIB = 2048
_LONGEST = 65536


def main() -> None:
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    target, corpus = TARGETS[name], folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "timeout": _SLOW_S,
        "rss_limit_mb": _MEMORY_MIB,
        "max_len": _LONGEST,
        "artifact_prefix": f"{folder}{os.sep}",
        "print_final_stats": 1,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(corpus)], target.check
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
