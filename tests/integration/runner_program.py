"""Programs of the tests that run where the runner does, and print one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNNER_PYTHON = Path(os.environ.get("HAQA_RUNNER_PYTHON", ROOT / ".venvs" / "runner" / "bin" / "python"))


def printed_by(module: str) -> dict[str, Any]:
    """What a module prints, run by the runner's Python."""
    done = subprocess.run(
        [str(RUNNER_PYTHON), "-m", module],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runner'}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
