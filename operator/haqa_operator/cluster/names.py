"""Names of a trial's Jobs and containers, and names as values of labels."""

from __future__ import annotations

from haqa_operator.serving.names import dns_label, label_value

QUANTIZE, MEASURE = "quantize", "measure"
"""Containers, named after the runner's steps."""
REFERENCE = "reference"
"""The runner's step that scores a model without serving it."""
VERIFY = "verify"
"""The runner's step that measures an engine which somebody else has started."""
ARTIFACT_TRIAL = "quantize"
"""In the place of a trial's name on the Job that makes an artifact."""

_LONGEST_LABEL = 63


def job_name(trial: str, attempt: int = 1) -> str:
    """Equal for equal trials and attempts: a Job that is applied twice is one Job."""
    return dns_label(trial) if attempt == 1 else dns_label(trial, f"a{attempt}")


def artifact_job_name(tuning: str, artifact: str, attempt: int = 1) -> str:
    """Of the Job that makes an artifact: one for all pools of the tuning."""
    return dns_label(tuning, QUANTIZE, artifact, *(() if attempt == 1 else (f"a{attempt}",)))


def label(name: str) -> str:
    """The name as a label's value; one that is too long keeps its hash, so that two of them stay different."""
    return label_value(name) if len(name) <= _LONGEST_LABEL else dns_label(name)
