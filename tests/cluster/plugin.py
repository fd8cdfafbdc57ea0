"""`kubectl haqa`, as kubectl itself finds and starts it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubectl import Kubectl

_ROOT = Path(__file__).parents[2]
_CALL_LIMIT_S = 120.0


@dataclass(frozen=True)
class Plugin:
    """The program from this checkout, on kubectl's path.

    Attributes:
        folder: Where it is put.
    """

    kubectl: Kubectl
    folder: Path

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code, and what is printed, errors included.

        Args:
            words: As they are typed after `kubectl haqa`.
        """
        program = self.folder / "kubectl-haqa"
        start = shlex.join([sys.executable, "-c", "from haqa_operator.cli import app; app()"])
        program.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        program.chmod(0o755)
        command = [self.kubectl.program, "haqa", *words, "--kubeconfig", str(self.kubectl.kubeconfig)]
        environment = {
            **os.environ,
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{_ROOT / 'operator'}:{_ROOT / 'runner'}",
            "COLUMNS": "120",
        }
        done = subprocess.run(
            [*command, "--namespace", self.kubectl.namespace],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_CALL_LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout

    def says(self, *words: str) -> str:
        """What is printed by a command that ends well."""
        code, text = self.run(*words)
        assert code == 0, f"kubectl haqa {' '.join(words)}: {text}"
        return text
