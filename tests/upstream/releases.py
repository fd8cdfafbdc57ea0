"""Adds releases of vLLM to the catalogue: `.venv/bin/python -m tests.upstream.releases 0.33.0`, then read what changed.

Each is the last patch of its minor version. Older ones are read by today's libraries, which works back to 0.11.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.upstream.wheels import unpacked

from haqa_operator.local.environments import PROJECT
from haqa_operator.serving import releases
from haqa_operator.serving.releases import Extracted, difference, extracted, known_releases, made_for
from haqa_operator.serving.versions import dotted, parse_version

SERVING = Path(releases.__file__).parent


def extract(version: str) -> dict[str, Any]:
    """What a release's own argument parser has, out of its wheel."""
    done = subprocess.run(
        [
            PROJECT / ".venvs" / "serving" / "bin" / "python",
            Path(__file__).with_name("extract_release.py"),
            SERVING / "extract_settings.py",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "PYTHONPATH": os.fspath(unpacked(version))},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found | {"version": version}


def chained(found: dict[str, Extracted]) -> dict[str, Any]:
    """All but the release that HAQA is made for, each as its difference from the neighbour on the way there."""
    ordered = sorted(found, key=parse_version)
    middle = ordered.index(dotted(made_for()))
    changes = {}
    for place, version in enumerate(ordered):
        if place != middle:
            neighbour = ordered[place - 1 if place > middle else place + 1]
            changes[version] = difference(found[neighbour], found[version])
    return dict(reversed(changes.items()))


def main() -> None:
    found = {dotted(release): extracted(release) for release in known_releases()}
    found |= {version: extract(version) for version in sys.argv[1:] if parse_version(version) != made_for()}
    (SERVING / "vllm_releases.json").write_text(json.dumps(chained(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
