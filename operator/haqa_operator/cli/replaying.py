"""`haqa replay`: a tuning on a table of measured configurations, in seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as RichTable

from haqa_operator.agent.credentials import EnvironmentCredentials
from haqa_operator.agent.strategy import agent_or_fallback
from haqa_operator.api import AgentSpec, QuantizationTuning, SearchStrategy, SpecError, load_tuning
from haqa_operator.api.loading import sentences
from haqa_operator.api.tuning import Budget
from haqa_operator.decision.goals import Goals
from haqa_operator.replay.context import table_context
from haqa_operator.replay.executor import TableExecutor
from haqa_operator.replay.recorder import MemoryRecorder, SilentObserver
from haqa_operator.replay.scoring import ReplayReport, replay_report
from haqa_operator.replay.tables.cells import TableError
from haqa_operator.replay.tables.columns import TableOptions
from haqa_operator.replay.tables.table import Table
from haqa_operator.search.factory import make_strategy
from haqa_operator.tuning.loop import PoolRun

Many = list[str]

app = typer.Typer(add_completion=False)


@app.command()
def replay(
    table: Annotated[Path, typer.Argument(help="CSV of measured configurations")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A QuantizationTuning: objective, constraints, search")],
    metric: Annotated[Many, typer.Option(help="COL[=NAME]: a column that is a metric")] = [],  # noqa: B006
    where: Annotated[Many, typer.Option(help="COL=VALUE: only these rows")] = [],  # noqa: B006
    baseline: Annotated[Many, typer.Option(help="COL=VALUE[,COL=VALUE]: the baseline's rows")] = [],  # noqa: B006
    ignore: Annotated[Many, typer.Option(help="COL: neither setting nor metric")] = [],  # noqa: B006
    setting: Annotated[Many, typer.Option(help="COL: a setting, though it looks like a metric")] = [],  # noqa: B006
    budget: Annotated[int | None, typer.Option(min=1, help="Trials, the baseline not counted")] = None,
    seed: Annotated[int | None, typer.Option(help="First seed")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run, one after the other")] = 1,
    strategy: Annotated[SearchStrategy | None, typer.Option(help="Instead of the file's")] = None,
    agent_model: Annotated[str | None, typer.Option(help="litellm's name of an LLM; implies --strategy agent")] = None,
    agent_api_base: Annotated[str | None, typer.Option(help="Endpoint of an OpenAI-compatible server")] = None,
    noise_percent: Annotated[float, typer.Option(min=0, help="Noise of one repeat, relative")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="The whole curve as JSON, one object a seed")] = False,
) -> None:
    """Run the tuning in FILE on TABLE: same search, same agent, trials answered from measured rows."""
    stderr = Console(stderr=True)
    try:
        tuning = _adjusted(load_tuning(file), budget, strategy, agent_model, agent_api_base)
        options = TableOptions.parse(metric=metric, where=where, baseline=baseline, ignore=ignore, setting=setting)
        measured = Table.load(table, options)
        measured.check(tuning.spec.objectives, tuning.spec.constraints)
        first = tuning.spec.search.seed if seed is None else seed
        reports = [_run(tuning, measured, first + i, noise_percent, stderr) for i in range(seeds)]
    except (SpecError, TableError) as error:
        for problem in getattr(error, "problems", None) or [str(error)]:
            stderr.print(f"error: {problem}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(code=2) from None
    if as_json:
        for report in reports:
            typer.echo(report.model_dump_json(by_alias=True))
    else:
        _print(reports)


def _adjusted(
    tuning: QuantizationTuning,
    budget: int | None,
    strategy: SearchStrategy | None,
    agent_model: str | None,
    agent_api_base: str | None,
) -> QuantizationTuning:
    spec, search = tuning.spec, tuning.spec.search
    if agent_model is not None:
        agent = _agent(search.agent, agent_model, agent_api_base)
        search = search.model_copy(update={"agent": agent, "strategy": SearchStrategy.HAQA})
    if strategy is not None:
        search = search.model_copy(update={"strategy": strategy})
    limits = spec.budget
    if budget is not None:
        limits = Budget.model_validate({**limits.model_dump(), "max_trials": budget})
    return tuning.model_copy(update={"spec": spec.model_copy(update={"search": search, "budget": limits})})


def _agent(known: AgentSpec | None, model: str, api_base: str | None) -> AgentSpec:
    fields = known.model_dump(by_alias=True) if known else {}
    try:
        return AgentSpec.model_validate({**fields, "model": model, "apiBase": api_base})
    except ValidationError as error:
        raise SpecError([f"--agent-model or --agent-api-base: {text}" for text in sentences(error, fields)]) from None


def _run(tuning: QuantizationTuning, table: Table, seed: int, noise_percent: float, stderr: Console) -> ReplayReport:
    search = tuning.spec.search.model_copy(update={"seed": seed})
    spec = tuning.spec.model_copy(update={"search": search})
    context = table_context(table, spec)
    chosen, note = agent_or_fallback(
        search,
        lambda: context,
        make_strategy(
            search.strategy, seed, Goals(spec.objectives[0], tuple(spec.constraints)), patience=search.patience
        ),
        EnvironmentCredentials(os.environ),
        lambda prompt, reply, exchange: None,
    )
    if note:
        stderr.print(note, markup=False, highlight=False, soft_wrap=True)
    result = PoolRun(
        tuning=tuning.metadata.name,
        pool="table",
        spec=spec,
        space=table.space,
        hardware=context.hardware,
        strategy=chosen,
        executor=TableExecutor(table, spec, noise_percent=noise_percent, seed=seed),
        recorder=MemoryRecorder(),
        observer=SilentObserver(),
        env={},
        agent_note=note,
    ).run()
    return replay_report(result, spec, table, seed=seed, noise_percent=noise_percent)


def _print(reports: list[ReplayReport]) -> None:
    console = Console()
    for report in reports:
        title = f"{report.table}: {report.configurations} configurations, {report.strategy}, seed {report.seed}"
        table = RichTable(title=title, title_justify="left")
        for heading in ("#", "by", "configuration", report.objective, "limits", "best so far", "of the best"):
            table.add_column(heading, justify="left" if heading in ("by", "configuration", "limits") else "right")
        varying = _varying(report)
        for point in report.trials:
            table.add_row(
                str(point.number),
                point.proposer.value,
                ", ".join(f"{name}={value}" for name, value in point.configuration.items() if name in varying),
                _number(point.value),
                "kept" if point.feasible else "; ".join(point.broken),
                _number(point.best_so_far),
                "" if point.fraction is None else f"{point.fraction:.0%}",
            )
        console.print(table)
        console.print(f"{report.decision.verdict.value}: {report.decision.reason}", markup=False, highlight=False)
    reached = [report.winner_fraction for report in reports if report.winner_fraction is not None]
    if len(reached) > 1:
        console.print(f"answer on average {sum(reached) / len(reached):.2f} of the best, over {len(reached)} seeds")


def _varying(report: ReplayReport) -> set[str]:
    """Parameters in which the trials differ; the others say nothing in a table."""
    names = {name for point in report.trials for name in point.configuration}
    return {name for name in names if len({repr(point.configuration.get(name)) for point in report.trials}) > 1}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
