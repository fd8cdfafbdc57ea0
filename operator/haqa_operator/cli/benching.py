"""`haqa bench search`: strategies against each other on tables of measurements."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from haqa_operator.api.search_spec import Patience
from haqa_operator.replay.bench import figures, rivals, writing
from haqa_operator.replay.bench.histories import with_history
from haqa_operator.replay.bench.measures import Summary, summarize
from haqa_operator.replay.bench.outcomes import Outcome, Store
from haqa_operator.replay.bench.problems import Half
from haqa_operator.replay.bench.reading import problems_of
from haqa_operator.replay.bench.searching import Plan, search
from haqa_operator.replay.tables.cells import TableError

app = typer.Typer(help="How well HAQA decides.", no_args_is_help=True, add_completion=False)

_RUNS, _MARKDOWN, _JSON, _PLOTS = "runs.jsonl", "search.md", "search.json", "search.html"


@app.callback()
def bench() -> None:
    """How well HAQA decides, measured on tables in which every result is known."""


@app.command("search")
def bench_search(
    tables: Annotated[
        list[Path], typer.Argument(metavar="TABLE...", help="Tables of measurements, or folders of them")
    ],
    strategy: Annotated[str, typer.Option(help="Comma-separated")] = "random,grid,tpe,expert,bayesian,haqa",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each table by each strategy")] = 5,
    trials: Annotated[int, typer.Option(min=1, help="Own trials after the baseline")] = 20,
    noise: Annotated[float, typer.Option(min=0, help="Noise of one repeat, in percent; also counts false wins")] = 0.0,
    agent: Annotated[
        str | None,
        typer.Option(help="scripted:right|wrong|silent|adversarial|stopping, or litellm's name of a model"),
    ] = None,
    patience: Annotated[Patience, typer.Option(help="When HAQA's own strategies stop")] = Patience.UNLIMITED,
    half: Annotated[Half | None, typer.Option(help="Only this half of the problems")] = None,
    output: Annotated[Path, typer.Option(help="Folder for results; a run goes on from what is in it")] = Path("bench"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output")] = False,
) -> None:
    """How near to the best each strategy comes, and how fast: best feasible so far against trials and machine-hours."""
    stderr = Console(stderr=True)
    strategies = tuple(dict.fromkeys(name.strip() for name in strategy.split(",") if name.strip()))
    try:
        for name in strategies:
            rivals.check(name, agent)
        everything = problems_of(tables)
        problems = [problem for problem in everything if half is None or problem.half is half]
        if any(name.endswith(rivals.WARM) for name in strategies):
            problems = with_history(problems, everything)
    except (TableError, rivals.RivalError) as error:
        stderr.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(code=2) from None
    if not problems:
        stderr.print(f"error: no problem of these tables is in the half {half}", markup=False)
        raise typer.Exit(code=2)
    plan = Plan(problems, strategies, seeds, trials, noise, agent, patience)
    outcomes = _searched(plan, Store(output / _RUNS), jobs, stderr)
    groups = _groups(outcomes, trials)
    about = (*_about(plan), *writing.LEGEND)
    text = json.dumps(
        {
            "about": list(about),
            "groups": {name: [s.model_dump(by_alias=True) for s in g] for name, g in groups.items()},
        },
        indent=2,
    )
    (output / _MARKDOWN).write_text(writing.markdown(groups, about), encoding="utf-8")
    (output / _JSON).write_text(text + "\n", encoding="utf-8")
    (output / _PLOTS).write_text(figures.page(groups, about), encoding="utf-8")
    if as_json:
        typer.echo(text)
    else:
        _print(groups, output)
    errors = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in errors[:5]:
        where = f"{outcome.label} on {outcome.task.problem}, seed {outcome.task.seed}"
        stderr.print(f"failed: {where}: {outcome.error}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code=1 if errors else 0)


def _searched(plan: Plan, store: Store, jobs: int, console: Console) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("searching", total=len(plan.tasks()))

        def on_done(done: int, total: int, outcome: Outcome) -> None:
            progress.update(
                bar, completed=done, total=total, description=f"{outcome.label} {outcome.task.problem}"[:60]
            )
            if not console.is_terminal and (done % max(1, total // 20) == 0 or done == total):
                console.print(f"{done} of {total} searches", highlight=False)

        try:
            return search(plan, store, jobs, on_done)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from here", highlight=False)
            raise typer.Exit(code=130) from None


def _groups(outcomes: Sequence[Outcome], trials: int) -> dict[str, Sequence[Summary]]:
    """All problems, then each table that they come from, where there are several."""
    groups: dict[str, Sequence[Summary]] = {"All tables": summarize(outcomes, trials)}
    sources = list(dict.fromkeys(outcome.source for outcome in outcomes))
    if len(sources) > 1:
        groups |= {name: summarize([o for o in outcomes if o.source == name], trials) for name in sources}
    return groups


def _about(plan: Plan) -> tuple[str, ...]:
    tables = list(dict.fromkeys(problem.table.source for problem in plan.problems))
    sizes = sorted(len(problem.table.rows) for problem in plan.problems)
    halves = list(dict.fromkeys(problem.half.value for problem in plan.problems))
    return (
        f"{len(plan.problems)} problems of {sizes[0]} to {sizes[-1]} configurations from {', '.join(tables)} "
        f"({' and '.join(halves)})",
        f"{plan.seeds} seeds, {plan.trials} own trials after the baseline, noise {plan.noise_percent:g} %, "
        f"agent: {plan.agent or 'none'}, patience {plan.patience.value}; "
        "strategies that draw no lots were run once where there is no noise",
        f"Python {platform.python_version()} on {platform.machine()}",
    )


def _print(groups: dict[str, Sequence[Summary]], output: Path) -> None:
    """The figures that say most; the others, and all intervals, are in the files."""
    console = Console()
    for title, summaries in groups.items():
        table = Table(title=f"{title}: {summaries[0].problems} problems", title_justify="left")
        for i, heading in enumerate(writing.short_heading(summaries)):
            table.add_column(heading, justify="left" if i == 0 else "right")
        for summary in summaries:
            table.add_row(*writing.short_cells(summary))
        console.print(table)
    console.print(f"all figures: {output / _MARKDOWN}, {output / _JSON}; plots: {output / _PLOTS}", highlight=False)
