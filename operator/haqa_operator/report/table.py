"""The report for a terminal: the answer of every pool and its trials, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from haqa_operator.api.trial import Trial
from haqa_operator.decision.results import PoolResult, Verdict
from haqa_operator.report import wording
from haqa_operator.report.answer import Tone, build_answer
from haqa_operator.report.model import TuningReport
from haqa_operator.report.trials import Cell, Outcome, TrialRow, build_columns, build_rows

_VERDICT_STYLES = {
    Verdict.WINNER: "green",
    Verdict.BASELINE_BEST: "cyan",
    Verdict.NOTHING_FEASIBLE: "red",
    Verdict.NO_MEASUREMENT: "red",
}
_TONE_STYLES = {Tone.GOOD: "green", Tone.BAD: "red", Tone.PLAIN: "default"}
_OUTCOME_STYLES = {
    Outcome.WINNER: "bold green",
    Outcome.FRONT: "cyan",
    Outcome.BREAKS_LIMIT: "red",
    Outcome.FAILED: "red",
    Outcome.ENDED_EARLY: "dim",
    Outcome.UNFINISHED: "dim",
}
_MOST_FIGURES = 3
"""Columns of figures that fit beside the configuration on a terminal of 80 characters."""
_MOST_LESSONS = 8
"""Lines of what was ruled out: the HTML report has all of it."""


def summary(report: TuningReport) -> RenderableType:
    """What `haqa tune` and `haqa report` end with: for every pool the answer, its trials, and what they ruled out."""
    parts = (
        (answer_view(report, result), trials_table(report, result), *_ruled_out(result)) for result in report.pools
    )
    return Group(*(Group(*of_pool) for of_pool in parts))


def answer_view(report: TuningReport, result: PoolResult) -> RenderableType:
    """The answer for one pool, in a box."""
    answer = build_answer(report, result)
    style = _VERDICT_STYLES[answer.verdict]
    figures = Table.grid(padding=(0, 2))
    for tile in answer.tiles:
        figures.add_row(
            safe_text(tile.label, "dim"),
            safe_text(tile.value, f"bold {_TONE_STYLES[tile.tone]}"),
            Text("; ".join(tile.details)),
        )
    badge = answer.badge + (" so far; the search has not ended" if answer.preliminary else "")
    lines: list[RenderableType] = [
        safe_text(answer.headline, "bold"),
        *map(safe_text, answer.sentences),
        Text(),
        figures,
    ]
    title = safe_text(f"{report.name}, pool {result.pool}: {badge}")
    return Panel(
        Group(*lines), title=title, title_align="left", subtitle=safe_text(result.hardware), border_style=style
    )


def trials_table(report: TuningReport, result: PoolResult) -> Table:
    """All trials of a pool, one a line, with their changes against the baseline."""
    columns = build_columns(report.spec_of(result), result.trials)[:_MOST_FIGURES]
    table = Table(
        title=safe_text(f"Trials of pool {result.pool}"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1)
    )
    table.add_column("#", justify="right")
    table.add_column("configuration", overflow="fold", min_width=20)
    for column in columns:
        table.add_column(safe_text(f"{column.title}\n{column.unit}".strip()), justify="right")
    table.add_column("outcome", min_width=16)
    for row in build_rows(report.spec_of(result), result, report.evidence(result), columns):
        table.add_row(
            str(row.number),
            safe_text(row.trial.configuration.describe()),
            *(_figure(cell) for cell in row.cells),
            _outcome(row),
        )
    return table


def _ruled_out(result: PoolResult) -> Iterator[Table]:
    """What trials have shown not to be worth another one; what was known beforehand is in the HTML report alone."""
    lessons = [exclusion for exclusion in result.exclusions if exclusion.trial is not None]
    if not lessons:
        return
    table = Table(title=safe_text("Ruled out on the way"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("#", justify="right")
    table.add_column("configurations with", overflow="fold", min_width=16)
    table.add_column("why", overflow="fold", min_width=24)
    table.add_column("how many", justify="right")
    for lesson in lessons[:_MOST_LESSONS]:
        common = ", ".join(f"{name}={value}" for name, value in lesson.parameters.items())
        table.add_row(str(lesson.trial), safe_text(common), safe_text(lesson.reason), str(lesson.configurations))
    if len(lessons) > _MOST_LESSONS:
        rest = lessons[_MOST_LESSONS:]
        table.add_row("", safe_text(f"{len(rest)} more"), "", str(sum(lesson.configurations for lesson in rest)))
    yield table


def trial_details(
    report: TuningReport, trial: Trial, folder: str | None = None, *, headlines: bool = False
) -> RenderableType:
    """Everything about one trial.

    Args:
        trial: One of the report's.
        folder: Where its logs and step reports are.
        headlines: Of what was measured only what the table of all trials shows.
    """
    result = next(pool for pool in report.pools if any(known.name == trial.name for known in pool.trials))
    columns = build_columns(report.spec_of(result), result.trials)
    shown = {str(column.key) for column in columns} if headlines else trial.status.metrics.keys()
    rows = build_rows(report.spec_of(result), result, report.evidence(result), columns=())
    row = next(row for row in rows if row.trial.name == trial.name)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    for label, value in _facts(row):
        facts.add_row(label, safe_text(value))
    if folder:
        facts.add_row("folder", safe_text(folder))
    figures = Table(title=Text("Measured"), title_justify="left")
    for heading in ("metric", "value", "95 % interval", "repeats"):
        figures.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, estimate in sorted((name, one) for name, one in row.trial.status.metrics.items() if name in shown):
        bounds = f"{estimate.low:.4g} to {estimate.high:.4g}" if estimate.low != estimate.high else ""
        figures.add_row(name, f"{estimate.value:.4g}", bounds, str(estimate.n))
    return Group(facts, figures) if row.trial.status.metrics else facts


def _facts(row: TrialRow) -> Iterator[tuple[str, str]]:
    trial, status = row.trial, row.trial.status
    yield "trial", trial.name
    yield "configuration", trial.configuration.describe()
    yield "outcome", row.outcome.value
    if row.reason:
        yield "why not chosen", row.reason
    yield "proposed by", row.proposer + (f" ({trial.proposal.note})" if trial.proposal.note else "")
    if trial.proposal.reasoning:
        yield "reasoning", trial.proposal.reasoning
    yield from (fact for fact in (("expected", row.expected), ("reached", row.reached)) if fact[1])
    for exchange in row.exchanges:
        tokens = f"{exchange.prompt_tokens} + {exchange.completion_tokens} tokens"
        problem = f": {exchange.error}" if exchange.error else ""
        yield "asked", f"{exchange.model}, {tokens}, {wording.duration_text(exchange.latency_seconds)}{problem}"
    if row.phases:
        yield "time", ", ".join(f"{phase.title} {wording.duration_text(phase.seconds)}" for phase in row.phases)
    if status.failure and status.failure.log_tail:
        yield "end of its log", "\n".join(status.failure.log_tail)
    if status.max_model_len:
        yield "longest request", f"{status.max_model_len:,} tokens, prompt and answer together"
    if status.artifact_digest:
        yield "artifact", status.artifact_digest
    for warning in status.warnings:
        yield "warning", warning


def _figure(cell: Cell) -> Text:
    text = safe_text(cell.text)
    return text.append(f"\n{cell.note}", _TONE_STYLES[cell.tone]) if cell.note else text


def safe_text(value: str, style: str = "") -> Text:
    """Text that cannot steer the terminal: an agent's reply or a log may hold escape sequences."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value), style)


def _outcome(row: TrialRow) -> Text:
    failure = row.trial.status.failure
    text = failure.reason.value if failure else row.outcome.value
    return safe_text(text, _OUTCOME_STYLES.get(row.outcome, "default")).append(f"\n{row.proposer}", "dim")
