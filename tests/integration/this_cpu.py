"""What the engine can serve on this machine's CPU, asked of HAQA itself, so that no test takes one CPU for granted."""

from __future__ import annotations

import os

from haqa_contract import Scheme
from haqa_operator.hardware.accelerators import Accelerator, Platform
from haqa_operator.hardware.this_machine import detect
from haqa_operator.local.environments import engine_version, serving_environment
from haqa_operator.search.requirements import Version, parse_version, requirement, unmet

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
    return [scheme for scheme in Scheme if requirement(Platform.CPU, scheme, version).refused is None]


def ruled_out_here(scheme: Scheme) -> str | None:
    """Why HAQA would not try a scheme on this machine; None where it would."""
    return unmet(_this_cpu(), scheme, installed_version())


def two_quantized_schemes() -> tuple[Scheme, Scheme]:
    """Two that a tuning on this machine can measure."""
    first, second, *_ = (scheme for scheme in QUICK if ruled_out_here(scheme) is None)
    return first, second


def _this_cpu() -> Accelerator:
    return detect(os.environ, None)
