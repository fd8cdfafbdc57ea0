"""Whether quantizing and serving work on this machine's accelerator: a table to paste into an issue.

    make gpu-check

A small model with random weights is quantized in four formats by two algorithms each, served by vLLM and measured in
three short windows, once with an FP8 KV cache, by the steps of a trial: what fails here fails in a tuning. The numbers
themselves mean little. It ends after --minutes; what was not reached is listed as such.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu_check.facts import facts, output
from benchmarks.gpu_check.pace import Pace
from benchmarks.gpu_check.rows import Row, rows
from benchmarks.gpu_check.table import Outcome, report
from pydantic import ValidationError

from haqa_contract.model_facts import ModelFacts
from haqa_operator.api import NodePool, Proposal, Proposer, Trial, TuningSpec
from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, HardwareError
from haqa_operator.hardware.this_machine import detect
from haqa_operator.local.environments import PROJECT, engine_version, runner_environment, serving_environment
from haqa_operator.local.executor import LocalExecutor, LocalPool
from haqa_operator.local.launchers import launchers
from haqa_operator.local.processes import Launcher
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.requirements import unmet
from haqa_operator.serving.settings import catalogue
from haqa_operator.serving.versions import parse_version
from haqa_operator.tuning.executor import TrialProgress
from haqa_runner.serve.launching import Spawn

_MODEL_LIMIT_S = 300.0
_SMALL = ModelProfile(ModelFacts(architecture="LlamaForCausalLM", model_type="llama", source="nothing", parameters=0))
"""As far as the time to load it goes, no size needs to be known."""
_KERNELS = ("*.cubin", "*.hsaco", "*.spv")
"""What Triton compiles to: for NVIDIA, AMD and Intel."""


@dataclass(frozen=True)
class Sizes:
    """Of the model: whole blocks of all kernels, and heads of 128 as in the models that people serve."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    vocab: int = 2048


ON_ACCELERATOR = Sizes(hidden=2048, layers=4, intermediate=6144, heads=16)
ON_CPU = Sizes(hidden=512, layers=2, intermediate=1024, heads=4)


def main() -> int:
    """Exit status: 0 = all that was run is well, 1 = something failed, 2 = nothing could be run."""
    arguments = _arguments()
    began = time.monotonic()
    try:
        override = HardwareOverride.model_validate_json(arguments.hardware) if arguments.hardware else None
        accelerator = detect(os.environ, override)
    except (HardwareError, ValidationError) as error:
        return _nothing(f"the hardware: {error}")
    if accelerator.is_cpu and override is None and Path("/dev/kfd").exists():
        return _nothing('AMD\'s devices are not recognized by themselves: HARDWARE=\'{"vendor": "amd", "product": …}\'')
    for environment in (runner_environment(), serving_environment()):
        if missing := environment.missing():
            return _nothing(f"{environment.python} lacks {', '.join(missing)}; name another in {environment.variable}")
    out: Path = arguments.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # Of the runner alone: the engine's kernels are kept elsewhere.
    os.environ["TRITON_CACHE_DIR"] = os.fspath(out / "triton")
    model = out / "model"
    if problem := _make_model(model, ON_CPU if accelerator.is_cpu else ON_ACCELERATOR):
        return _nothing(f"the model could not be made: {problem}")
    known = facts(accelerator, runner_environment(), serving_environment(), _commit())
    outcomes: list[Outcome] = []
    text = ""
    with launchers(not arguments.no_prefork, lambda who, text: _say(f"{who}: {text}")) as starting:
        check = Check(accelerator, model, out, began + 60 * arguments.minutes, arguments.rows, *starting)
        for outcome in check.outcomes():
            outcomes.append(outcome)
            # After every row: somebody may lose patience.
            text = report(known, outcomes, _compiled(out / "triton"), time.monotonic() - began)
            (out / "report.md").write_text(text)
    print(text)
    print(f"{out / 'report.md'}; logs of every row are in {out / 'trials'}", file=sys.stderr)
    # On an accelerator llm-compressor has Triton's kernels quantize; without them it is slow, and something is missing.
    return int(any(outcome.failed for outcome in outcomes) or not (_compiled(out / "triton") or accelerator.is_cpu))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "gpu-check", help="emptied first")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no row is begun and the last one ends")
    parser.add_argument("--hardware", help='as nodePools[].hardware, in JSON: {"vendor": "amd", "product": "MI300X"}')
    parser.add_argument("--no-prefork", action="store_true", help="as haqa tune --no-prefork")
    parser.add_argument("--rows", type=int, default=sys.maxsize, help="run no more than the first ones")
    return parser.parse_args()


@dataclass(frozen=True)
class Check:
    """Runs the rows, one after the other.

    Attributes:
        ends: On the monotonic clock.
        most: Rows to run.
    """

    accelerator: Accelerator
    model: Path
    out: Path
    ends: float
    most: int
    runner: Launcher
    spawn: Spawn

    def outcomes(self) -> Iterator[Outcome]:
        version = parse_version(engine_version(serving_environment()) or catalogue().version)
        chosen = rows(lambda scheme: unmet(self.accelerator, scheme, version), on_cpu=self.accelerator.is_cpu)
        earlier: list[Trial] = []
        pace = Pace(chosen)
        for number, row in enumerate(chosen):
            name, left_s = row.configuration.describe(), self.ends - time.monotonic()
            if len(earlier) >= self.most and row.refused is None:
                yield Outcome(name, why=f"only {self.most} were asked for")
            elif (why := pace.skipped(row, left_s)) is not None:
                yield Outcome(name, why=why)
            else:
                trial = _trial(row, number)
                executor = self._executor(pace.limit_s(number, left_s))
                status = executor.execute(trial, earlier, _Progress(name))
                pace.ended(row, status)
                earlier.append(trial.model_copy(update={"status": status}))
                yield Outcome(name, status)

    def _executor(self, limit_s: float) -> LocalExecutor:
        pool = {"name": "gpu-check", "env": {"TRITON_CACHE_DIR": os.fspath(self.out / "engine-triton")}}
        place = LocalPool(
            spec=_spec(self.model, limit_s),
            pool=NodePool.model_validate(pool),
            accelerator=self.accelerator,
            folder=self.out,
            store=os.fspath(self.out / "store"),
            cache=self.out / "cache",
            max_model_len=1024,
            profile=_SMALL,
        )
        return LocalExecutor(place, self.runner, self.spawn)


def _spec(model: Path, limit_s: float) -> TuningSpec:
    return TuningSpec.model_validate(
        {
            "model": {"uri": f"file://{model}"},
            "nodePools": [{"name": "gpu-check"}],
            "workload": {
                "inputTokens": 64,
                "outputTokens": 32,
                "concurrency": [8],
                "durationSeconds": 2,
                "repeats": 3,
                "warmupRequests": 1,
            },
            "calibration": {"samples": 16, "sequenceLength": 256},
            "evaluation": {"samples": 8, "sequenceLength": 128},
            "budget": {"trialTimeout": f"{max(1, int(limit_s))}s"},
        }
    )


def _trial(row: Row, number: int) -> Trial:
    proposer = Proposer.BASELINE if number == 0 else Proposer.GRID
    proposal = Proposal(configuration=row.configuration, proposer=proposer)
    return Trial(name=f"row-{number:02d}", tuning="gpu-check", pool="gpu-check", number=number, proposal=proposal)


class _Progress:
    """One line for each phase."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = ""

    def __call__(self, progress: TrialProgress) -> None:
        if progress.phase.value != self._last:
            self._last = progress.phase.value
            _say(f"{self._name}: {self._last}")


def _make_model(path: Path, sizes: Sizes) -> str:
    """What went wrong; empty where nothing did."""
    options = [word for name, value in vars(sizes).items() for word in (f"--{name}", str(value))]
    command = [os.fspath(runner_environment().python), os.fspath(PROJECT / "tests" / "tiny_model.py"), os.fspath(path)]
    try:
        subprocess.run([*command, *options], capture_output=True, text=True, timeout=_MODEL_LIMIT_S, check=True)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()[-500:]
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


def _compiled(folder: Path) -> list[str]:
    """Names of the kernels in Triton's cache."""
    return sorted({path.stem for pattern in _KERNELS for path in folder.rglob(pattern)})


def _commit() -> str:
    described = output(("git", "-C", os.fspath(PROJECT), "describe", "--always", "--dirty"))
    return described or "not a checkout"


def _nothing(reason: str) -> int:
    print(f"nothing was run: {reason}", file=sys.stderr)
    return 2


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
