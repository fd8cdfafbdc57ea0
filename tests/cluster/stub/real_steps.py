"""The real `haqa_runner` in a trial's pod: its fetching, store, supervision and reports, and the winner's `fetch`.

Only what needs torch or a real engine is replaced: llm-compressor, by something that copies the model, and measuring,
by the stub runner's table. Its packages come by PYTHONPATH.
"""

import shutil
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))  # which PYTHONSAFEPATH leaves out

import behaviour
import runner

from haqa_contract import TrialReport, TrialRequest
from haqa_runner.__main__ import main
from haqa_runner.quantize import step

MADE_BY = "made-by"
"""File of an artifact that names the pod which made it."""


def compress(job: SimpleNamespace, folder: Path, progress: object) -> None:
    print("compressing", flush=True)
    behaviour.hold("quantize")
    shutil.copytree(job.model, folder, dirs_exist_ok=True)
    (folder / MADE_BY).write_text(socket.gethostname())


def job(model: Path, *others: object, **more: object) -> SimpleNamespace:
    return SimpleNamespace(model=model)


def measure(request: TrialRequest, phases: object, progress: object) -> TrialReport:
    measured = runner.measure(request.model_dump(mode="json"))
    return TrialReport.model_validate({"trial": request.trial, **measured})


def verify(request: TrialRequest, phases: object, progress: object) -> TrialReport:
    measured = runner.verify(request.model_dump(mode="json"))
    return TrialReport.model_validate({"trial": request.trial, **measured})


def replace(name: str, **content: object) -> None:
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(content)


step.tool_versions = lambda algorithm: {"stub": "1"}
replace("haqa_runner.quantize.warm", compressor=SimpleNamespace(Job=job, compress=compress))
replace("haqa_runner.measure.step", run=measure)
replace("haqa_runner.verify.step", run=verify)
if __name__ == "__main__":
    sys.exit(main())
