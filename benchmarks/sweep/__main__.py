"""Measures every configuration of a tuning, each against the baseline's engine beside it, and writes a table.

    make sweep

What was measured is kept and not measured again. The table is for `haqa bench search` and `haqa replay`.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.sweep.paired import PairedExecutor
from rich.console import Console

from haqa_operator.api import QuantizationTuning, load_tuning
from haqa_operator.api.paths import resolved
from haqa_operator.cli.live import LiveTable
from haqa_operator.decision.results import PoolResult
from haqa_operator.local.tuning import LocalTuning
from haqa_operator.local.workspace import Workspace
from haqa_operator.replay.tables.export import export_table, notes_of

HOW = (
    "Windows alternate with windows of the baseline's engine, which stays up beside every other, and are written down "
    "as at the speed that the machine had in the first of those; trial:machineHours are of both engines."
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path("benchmarks/sweep/cpu.yaml"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--concurrency", type=int, help="requests in flight; by default the tuning's")
    parser.add_argument("--output-tokens", type=int, help="of each answer; by default the tuning's")
    parser.add_argument("--samples", type=int, help="texts that accuracy is judged on; by default the tuning's")
    parser.add_argument("--most", type=int, help="so many configurations, drawn by lot; by default all")
    asked = parser.parse_args()
    tuning = resolved(_shortened(load_tuning(asked.file), asked), asked.file.resolve().parent)
    workspace, console = Workspace.of(asked.out, tuning.metadata.name), Console()
    isa, words = os.environ.get("HAQA_TEST_ISA"), " ".join(sys.argv[1:])
    command = " ".join(filter(None, (isa and f"HAQA_TEST_ISA={isa}", "make sweep", words and f'SWEEP="{words}"')))

    def keep(result: PoolResult) -> None:
        notes = notes_of(tuning, result, command)
        table = export_table(
            result.trials, notes.model_copy(update={"notes": (*notes.notes, HOW)}), expected=result.expected
        )
        # Where this checkout is says nothing to whoever reads the table.
        workspace.table(result.pool).write_text(table.replace(f"{Path.cwd()}/", ""), encoding="utf-8")
        console.print(f"table  {workspace.table(result.pool)}", highlight=False, soft_wrap=True)

    with LiveTable(tuning.spec, console) as live, ExitStack() as standing:
        LocalTuning(tuning, asked.out, live, executor=partial(PairedExecutor, standing)).run(keep)


def _shortened(tuning: QuantizationTuning, asked: argparse.Namespace) -> QuantizationTuning:
    """For machines on which the whole would take a day."""
    spec = tuning.spec
    workload = spec.workload.model_copy(
        update={
            "concurrency": (asked.concurrency,) if asked.concurrency else spec.workload.concurrency,
            "output_tokens": asked.output_tokens or spec.workload.output_tokens,
        }
    )
    evaluation = spec.evaluation.model_copy(update={"samples": asked.samples or spec.evaluation.samples})
    budget = spec.budget.model_copy(update={"max_trials": asked.most or spec.budget.max_trials})
    shorter = {"workload": workload, "evaluation": evaluation, "budget": budget}
    return tuning.model_copy(update={"spec": spec.model_copy(update=shorter)})


if __name__ == "__main__":
    main()
