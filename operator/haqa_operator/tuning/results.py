"""A runner's report becomes the status of its trial. Pure: the same for processes and for pods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from haqa_contract import Failure, FailureReason, TrialReport, Window, Workload
from haqa_operator.api import TrialPhase, TrialStatus
from haqa_operator.metrics.summary import summarize


def trial_status(
    report: TrialReport,
    workload: Workload,
    *,
    cost_per_hour: float | None,
    accelerators: int,
    started: float,
    finished: float,
    attempts: int,
    served: bool = True,
) -> TrialStatus:
    """The finished trial's status. A report without windows and without a failure is a failure too.

    Args:
        served: Whether the trial was to be; a baseline that is only scored has no windows.
    """
    summary = summarize(report, workload=workload, cost_per_hour=cost_per_hour)
    failure = report.failure
    if failure is None and report.load is None and served:
        failure = Failure(
            reason=FailureReason.METRICS_MISSING,
            message="the measuring step ended without numbers; see measure.log in the trial's folder",
        )
    seconds = finished - started
    return TrialStatus(
        phase=TrialPhase.SUCCEEDED if failure is None else TrialPhase.FAILED,
        started=started,
        finished=finished,
        metrics=summary.metrics,
        samples=summary.samples,
        source=_source(report.load.windows) if report.load else None,
        failure=failure,
        ended_early=report.load.ended_early if report.load else None,
        artifact_digest=report.artifact.digest if report.artifact else None,
        artifact_reused=report.artifact.reused if report.artifact else False,
        phase_seconds=_phase_seconds(report, seconds),
        machine_hours=machine_hours(seconds, accelerators),
        attempts=attempts,
        warnings=report.warnings,
        machine=report.machine,
        max_model_len=report.max_model_len,
        engine_version=report.engine.version if report.engine else None,
        engine_args=report.engine.args if report.engine else (),
        engine_env=report.engine.env if report.engine else {},
    )


def _source(windows: Sequence[Window]) -> str | None:
    """Who counted the tokens of the windows that the metrics are of; of any, where none of them counts."""
    sources = [window.source for window in sorted(windows, key=lambda window: window.invalid is not None)]
    return sources[0] if sources else None


def machine_hours(seconds: float, accelerators: int) -> float:
    """0 where the clocks of a node and of the control plane say that something ended before it began."""
    return max(0.0, seconds) / 3600 * max(1, accelerators)


def _phase_seconds(report: TrialReport, seconds: float) -> dict[str, float]:
    """Seconds by phase; what no phase accounts for is overhead: starting, stopping, importing, waiting."""
    total: defaultdict[str, float] = defaultdict(float)
    for phase in report.phases:
        total[phase.name] += phase.seconds
    total["overhead"] = max(0.0, seconds - sum(s for name, s in total.items() if name != "overhead"))
    return {name: round(value, 3) for name, value in total.items()}
