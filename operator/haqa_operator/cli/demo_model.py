"""`haqa model demo`: trains the demo model in the runner's environment, which has torch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from haqa_contract import PROGRESS_PREFIX
from haqa_contract import Progress as ProgressLine
from haqa_operator.api import SpecError
from haqa_operator.local.environments import runner_environment


def make_demo_model(path: Path, seed: int) -> None:
    """Makes the model at `path` unless it is there; progress on the terminal.

    Raises:
        SpecError: the runner's environment is missing, or training failed; with the remedy.
    """
    environment = runner_environment()
    if missing := environment.missing():
        raise SpecError([f"{environment.python}: {', '.join(missing)} missing; run `haqa doctor` for the remedy"])
    command = [os.fspath(environment.python), "-m", "haqa_runner.demo", "--out", os.fspath(path), "--seed", str(seed)]
    columns = (TextColumn("demo model"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    last = ""
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        Progress(*columns) as bar,
    ):
        task = bar.add_task("starting", total=1.0)
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            if line.startswith(PROGRESS_PREFIX):
                progress = ProgressLine.model_validate_json(line.removeprefix(PROGRESS_PREFIX))
                bar.update(task, completed=progress.done, description=progress.message)
    if process.returncode != 0:
        raise SpecError([f"the demo model was not made (exit code {process.returncode}): {last}"])
