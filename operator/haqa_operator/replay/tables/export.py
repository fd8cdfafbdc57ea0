"""A tuning as a table that `haqa replay` and `haqa bench search` read back without options."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from haqa_contract.configuration import OF_WEIGHTS
from haqa_operator.api import QuantizationTuning
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial, TrialStatus
from haqa_operator.decision.results import PoolResult
from haqa_operator.metrics.intervals import interval
from haqa_operator.replay.tables.cells import write_scalar
from haqa_operator.replay.tables.columns import (
    BASELINE,
    BOUNDS,
    EXPECTED,
    FAILURE,
    LOAD_HOURS,
    MACHINE_HOURS,
    MESSAGE,
    METRIC,
    SETTING,
    TRIAL,
)
from haqa_operator.replay.tables.notes import TableNotes, write_notes

_LOAD = ("warmup", "load_test")
"""Phases of a load test."""


def notes_of(tuning: QuantizationTuning, result: PoolResult, command: str) -> TableNotes:
    """What somebody else has to know to use the figures of a pool, and to measure them again.

    Args:
        command: That made them.
    """
    measured = [trial.status for trial in result.trials if trial.status.engine_version]
    versions = sorted({status.engine_version for status in measured if status.engine_version})
    kernels = sorted({f"Linux {status.machine['kernel']}" for status in measured if "kernel" in status.machine})
    workload = result.measured_with.workload if result.measured_with else tuning.spec.workload
    days = sorted({_day(s.finished) for s in measured if s.finished is not None})
    count = f"{workload.requests_per_level} requests" if workload.requests_per_level else "4 requests a stream"
    window = f"{workload.duration_s:g} s" if workload.duration_s else count
    when = "".join(f", {day}" for day in dict.fromkeys([*days[:1], *days[-1:]]))
    return TableNotes(
        source=f"{command}, pool {result.pool}{when}",
        engine=f"vLLM {', '.join(versions)}" if versions else None,
        model=tuning.spec.model.uri.rsplit("/", 1)[-1],
        accelerator=", ".join([result.hardware, *kernels]),
        objective=tuning.spec.objectives[0],
        notes=(
            f"Prompts of {workload.input_tokens} and answers of {workload.output_tokens} tokens; each line is one of "
            f"{workload.repeats} windows of {window} at each level of requests in flight (@1 = one).",
        ),
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def export_table(
    trials: Sequence[Trial], notes: TableNotes | None = None, expected: Mapping[str, float] | None = None
) -> str:
    """CSV with one line for each repeat of each finished trial; `Table.load` describes the columns.

    What was measured once in a trial (perplexity, the artifact's size) stands on the trial's first line, with the
    interval it was measured with. A trial whose load test ended early is left out: its figures are rough.

    Args:
        expected: Name of a trial -> how many times as fast as the baseline it was expected to be, by what was known
            before anything was measured.
    """
    finished = [trial for trial in trials if trial.status.phase.finished and not trial.status.ended_early]
    rows = [row for trial in finished for row in _rows(trial, (expected or {}).get(trial.name))]
    header = list(dict.fromkeys([TRIAL + "name", TRIAL + BASELINE, *OF_WEIGHTS]))
    settings = sorted({name for row in rows for name in row if name.startswith(SETTING)})
    metrics = dict.fromkeys(name for row in rows for name in row if name.startswith(METRIC))
    about = [TRIAL + name for name in (FAILURE, MESSAGE, MACHINE_HOURS, LOAD_HOURS, *([EXPECTED] if expected else []))]
    text = io.StringIO()
    text.write(write_notes(notes) if notes else "")
    writer = csv.DictWriter(text, [*header, *settings, *metrics, *about], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(trial: Trial, expected: float | None) -> list[dict[str, str]]:
    configuration, status = trial.configuration, trial.status
    repeats = {name: values for name, values in status.samples.items() if _explained(trial, name)}
    count = max((len(values) for values in repeats.values()), default=1)
    rows: list[dict[str, str]] = [
        {
            TRIAL + "name": trial.name,
            TRIAL + BASELINE: write_scalar(trial.is_baseline),
            "scheme": configuration.scheme.value,
            "algorithm": configuration.algorithm.value,
            "group-size": write_scalar(configuration.group_size),
            "variant": write_scalar(configuration.variant),
            **{SETTING + name: write_scalar(value) for name, value in configuration.engine},
        }
        for _ in range(count)
    ]
    for name, values in repeats.items():
        for row, value in zip(rows, values, strict=False):
            row[METRIC + name] = repr(value)
    rows[0] |= _measured_once(trial, repeats)
    rows[0][TRIAL + MACHINE_HOURS] = repr(status.machine_hours)
    if (load := _load_hours(status)) is not None:
        rows[0][TRIAL + LOAD_HOURS] = repr(load)
    if expected is not None:
        rows[0][TRIAL + EXPECTED] = f"{expected:.4g}"
    if status.failure is not None:
        rows[0][TRIAL + FAILURE] = status.failure.reason.value
        rows[0][TRIAL + MESSAGE] = " ".join(status.failure.message.split())
    return rows


def _load_hours(status: TrialStatus) -> float | None:
    """Of the trial's machine-hours, those of its load test; None where the phases are not known."""
    seconds = status.phase_seconds
    total = sum(seconds.values())
    return status.machine_hours * sum(seconds.get(name, 0.0) for name in _LOAD) / total if total > 0 else None


def _explained(trial: Trial, name: str) -> bool:
    """Whether the estimate of a metric follows from its repeats."""
    estimate = trial.status.metrics.get(name)
    return estimate is not None and estimate == interval(MetricKey.parse(name), trial.status.samples[name])


def _measured_once(trial: Trial, repeats: Mapping[str, Sequence[float]]) -> dict[str, str]:
    cells = {}
    for name, estimate in trial.status.metrics.items():
        if name in repeats:
            continue
        cells[METRIC + name] = repr(estimate.value)
        if estimate.n > 1 or estimate.low != estimate.high:
            cells |= {f"{METRIC}{name}:{bound}": repr(getattr(estimate, bound)) for bound in BOUNDS}
    return cells
