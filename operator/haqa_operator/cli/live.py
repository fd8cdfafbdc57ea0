"""A tuning as it happens: a live table for people, lines of JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from haqa_operator.api import Trial, TrialPhase, TuningSpec
from haqa_operator.api.metrics import MetricKey
from haqa_operator.decision.constraints import References
from haqa_operator.tuning.executor import TrialProgress


class LiveTable:
    """Redraws one table of trials while a pool is tuned; on a dumb terminal, prints one line a trial."""

    def __init__(self, spec: TuningSpec, console: Console, clock: Callable[[], float] = time.time) -> None:
        self.spec = spec
        self.console = console
        self.clock = clock
        self._pool = ""
        self._trials: tuple[Trial, ...] = ()
        self._progress: dict[int, TrialProgress] = {}
        self._reported: set[str] = set()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, auto_refresh=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def on_trials(self, pool: str, trials: tuple[Trial, ...]) -> None:
        if pool != self._pool and self._pool and self.console.is_terminal:
            self.console.print(self._render())
        if pool != self._pool:
            self._progress = {}
        self._pool, self._trials = pool, trials
        if not self.console.is_terminal:
            self._print_finished(trials)

    def on_progress(self, pool: str, trial: Trial, progress: TrialProgress) -> None:
        previous = self._progress.get(trial.number)
        self._progress[trial.number] = progress
        if not self.console.is_terminal and (previous is None or previous.phase is not progress.phase):
            self.console.print(f"{trial.name}: {progress.phase}: {progress.message}", highlight=False)

    def on_note(self, pool: str, note: str) -> None:
        self.console.print(f"[{pool}] {note}", markup=False, highlight=False)

    def _print_finished(self, trials: tuple[Trial, ...]) -> None:
        for trial in trials:
            if trial.status.phase.finished and trial.name not in self._reported:
                self._reported.add(trial.name)
                cells = " | ".join(cell for cell in _cells(trial, trials, self.spec) if cell)
                self.console.print(f"{trial.name}: {cells}", markup=False, highlight=False)

    def _render(self) -> RenderableType:
        table = Table(title=f"pool {self._pool}" if self._pool else None, title_justify="left", expand=False)
        for heading, justify in _COLUMNS:
            table.add_column(heading, justify=justify)
        for trial in self._trials:
            number, configuration, phase, *numbers = _cells(trial, self._trials, self.spec)
            progress = self._progress.get(trial.number)
            if not trial.status.phase.finished and progress is not None:
                phase = f"{progress.phase} {progress.done:.0%}"
            style = "red" if trial.status.phase is TrialPhase.FAILED else None
            table.add_row(number, Text(configuration, overflow="fold"), phase, *numbers, style=style)
        return Group(table, Text(self._doing(), style="dim", overflow="ellipsis", no_wrap=True))

    def _doing(self) -> str:
        running = next((t for t in reversed(self._trials) if t.number in self._progress), None)
        if running is None:
            return ""
        took = f"{self.clock() - running.status.started:.0f} s, " if running.status.started else ""
        return f"{running.name}: {took}{self._progress[running.number].message}"


_COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("#", "right"),
    ("configuration", "left"),
    ("phase", "left"),
    ("tokens/s", "right"),
    ("vs baseline", "right"),
    ("TTFT ms", "right"),
    ("ITL ms", "right"),
    ("perplexity", "right"),
)


def _cells(trial: Trial, trials: tuple[Trial, ...], spec: TuningSpec) -> tuple[str, ...]:
    reference = References.among(trials).speed
    failure = trial.status.failure
    phase = failure.reason.value if failure else trial.status.phase.value
    if trial.status.ended_early:
        phase = "ended early"
    return (
        str(trial.number),
        trial.configuration.describe(),
        phase,
        _number(trial, "throughput"),
        _versus(trial, reference, spec),
        _number(trial, "ttft"),
        _number(trial, "itl"),
        _number(trial, "perplexity", digits=4),
    )


def _number(trial: Trial, metric: str, digits: int = 3) -> str:
    estimate = trial.status.metrics.get(metric)
    return (
        f"{estimate.value:.{digits}g}"
        if estimate and abs(estimate.value) < 1000
        else (f"{estimate.value:,.0f}" if estimate else "")
    )


def _versus(trial: Trial, baseline: Trial | None, spec: TuningSpec) -> str:
    """The objective over the baseline's, turned so that above 1 is better."""
    key = str(MetricKey(spec.objectives[0].metric, spec.objectives[0].percentile, spec.objectives[0].concurrency))
    if baseline is None or key not in trial.status.metrics or key not in baseline.status.metrics:
        return ""
    own, reference = trial.status.metrics[key].value, baseline.status.metrics[key].value
    if not own or not reference:
        return ""
    return f"x{own / reference if spec.objectives[0].maximize else reference / own:.2f}"


class JsonLines:
    """One JSON object a line on standard output: `{"event": "trial" | "progress" | "note", ...}`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._seen: dict[str, str] = {}

    def on_trials(self, pool: str, trials: tuple[Trial, ...]) -> None:
        for trial in trials:
            body = trial.model_dump(mode="json", by_alias=True)
            text = json.dumps(body, sort_keys=True)
            if self._seen.get(trial.name) != text:
                self._seen[trial.name] = text
                self._write({"event": "trial", "pool": pool, "trial": body})

    def on_progress(self, pool: str, trial: Trial, progress: TrialProgress) -> None:
        self._write(
            {
                "event": "progress",
                "pool": pool,
                "trial": trial.name,
                "phase": progress.phase.value,
                "done": round(progress.done, 3),
                "message": progress.message,
            }
        )

    def on_note(self, pool: str, note: str) -> None:
        self._write({"event": "note", "pool": pool, "message": note})

    def _write(self, event: dict[str, Any]) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()
