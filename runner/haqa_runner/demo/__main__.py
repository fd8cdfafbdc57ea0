"""`python -m haqa_runner.demo --out FOLDER`: makes the demo model, progress on standard output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from haqa_contract import PROGRESS_PREFIX, Progress
from haqa_runner.demo.recipe import DemoRecipe, is_made


def main() -> int:
    parser = argparse.ArgumentParser(prog="haqa_runner.demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recipe = DemoRecipe(seed=given.seed)
    if is_made(given.out, recipe):
        _report(1.0, f"{given.out} is there already")
        return 0
    from haqa_runner.demo.train import make_demo_model  # brings torch along

    make_demo_model(given.out, recipe, _report)
    return 0


def _report(done: float, message: str) -> None:
    line = Progress(phase="demo", done=done, message=message).model_dump_json()
    sys.stdout.write(f"{PROGRESS_PREFIX}{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
