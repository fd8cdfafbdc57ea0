"""Every value of the default spaces, as the command that a trial would have, for vLLM's own argument parser."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.search.default_cases import MACHINES, MODELS, WORKLOADS

from haqa_contract import Configuration, Scheme
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.local.environments import PROJECT
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.joining import offers
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.versions import Version

PROGRAM = """
import importlib, json, sys
def first(*places):
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            pass
places = ("common", "launchers", "openai")
make_arg_parser = first(*(f"vllm.entrypoints.{place}.cli_args:make_arg_parser" for place in places))
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
def refused(command):
    try:
        AsyncEngineArgs.from_cli_args(parser.parse_args(command))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
print("ANSWER" + json.dumps([refused(command) for command in json.load(sys.stdin)]))
"""


def commands(version: Version) -> dict[str, tuple[str, ...]]:
    """What is set, in words -> arguments; each combination of settings that a value has, once."""
    found = {}
    for machine in MACHINES.values():
        for case in _cases(machine, version):
            for offer in offers(case, ()):
                for value in offer.values:
                    configuration = case.configuration.model_copy(update={"engine": value.items})
                    launch = engine_launch(
                        configuration,
                        machine,
                        model_path="/m",
                        served_model_name="m",
                        max_model_len="auto" if version >= (0, 14, 0) else None,
                        engine_version=version,
                    )
                    found[f"{value}"] = launch.args
    return found


def _cases(machine: Accelerator, version: Version) -> Iterator[Case]:
    for model in MODELS.values():
        for workload in WORKLOADS.values():
            case = Case(machine, model, Configuration(), workload, version)
            yield case
            for scheme in (Scheme.FP8_DYNAMIC, Scheme.W4A16, Scheme.NVFP4, Scheme.MXFP4):
                yield replace(case, configuration=Configuration.of(scheme, "rtn"))


def refusals(asked: Mapping[str, tuple[str, ...]], tree: Path | None = None) -> dict[str, str]:
    """What vLLM's parser and `EngineArgs` do not take, of the installed release or of one in a folder."""
    path = {"PYTHONPATH": os.fspath(tree)} if tree else {}
    done = subprocess.run(
        [PROJECT / ".venvs" / "serving" / "bin" / "python", "-c", PROGRAM],
        input=json.dumps(list(asked.values())),
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_TARGET_DEVICE": "cpu", **path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[Any] = json.loads(done.stdout.partition("ANSWER")[2])
    return {what: answer for what, answer in zip(asked, answers, strict=True) if answer is not None}
