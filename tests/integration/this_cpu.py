"""What the engine can serve on this machine's CPU, asked of HAQA itself, so that no test takes one CPU for granted."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from haqa_contract import MADE_SCHEMES, Scheme
from haqa_operator.hardware.accelerators import Accelerator, Platform
from haqa_operator.hardware.this_machine import detect
from haqa_operator.local.environments import engine_version, serving_environment
from haqa_operator.search.requirements import requirement, unmet
from haqa_operator.serving.versions import Version, parse_version
from haqa_runner.serve.launching import Spawn

QUICK = (Scheme.W8A8_INT8, Scheme.W4A16, Scheme.W4A8)
"""Quantized schemes, of which every CPU that vLLM runs on serves at least two."""


def installed_version() -> Version:
    """vLLM's, in the serving environment."""
    version = engine_version(serving_environment())
    assert version is not None, "no vLLM in the serving environment: run `make envs`"
    return parse_version(version)


def schemes_of_cpus() -> list[Scheme]:
    """Those that vLLM serves on some CPU."""
    version = installed_version()
    return [scheme for scheme in MADE_SCHEMES if requirement(Platform.CPU, scheme, version).refused is None]


def ruled_out_here(scheme: Scheme) -> str | None:
    """Why HAQA would not try a scheme on this machine; None where it would."""
    return unmet(this_cpu(), scheme, installed_version())


def two_quantized_schemes() -> tuple[Scheme, Scheme]:
    """Two that a tuning on this machine can measure."""
    first, second, *_ = (scheme for scheme in QUICK if ruled_out_here(scheme) is None)
    return first, second


def this_cpu() -> Accelerator:
    return detect(os.environ, None)


def answers(
    engines: Spawn, models: Iterable[Path], folder: Path, limit_s: float = 500, *, text_only: Collection[Path] = ()
) -> dict[Path, str | None]:
    """What keeps this machine's engine from answering with each model; None where it answers.

    Args:
        text_only: Of the models, those that are served without their towers.
    """
    wanted = {model: f"text:{model}" if model in text_only else str(model) for model in models}
    program = Path(__file__).with_name("answering.py").read_text()
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    asking = engines(["-c", program, *wanted.values()], environment, folder, folder / "log")
    code = asking.wait(limit_s)
    log = (folder / "log").read_text()
    assert code == 0, log[-3000:]
    found = json.loads(next(line for line in reversed(log.splitlines()) if line.startswith("{")))
    return {model: found[name] for model, name in wanted.items()}
