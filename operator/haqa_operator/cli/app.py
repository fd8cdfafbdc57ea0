"""`haqa`: the command line. Each command parses, delegates and prints; what it does lives in the layers below.

What searches takes seconds to import, which a look at a cluster need not pay: it is imported where it is used.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from haqa_operator.api import QuantizationTuning, SpecError, load_tuning
from haqa_operator.api.builtin_text import builtin_text_warning
from haqa_operator.cli import cluster
from haqa_operator.cli.cluster.connection import Context, Kubeconfig, Namespace
from haqa_operator.cli.doctor import Level, examine
from haqa_operator.cli.loading import LazyGroup
from haqa_operator.tuning.pool_defaults import left_to_haqa
from haqa_operator.tuning.preflight import metric_problems, setting_problems

app = typer.Typer(
    cls=LazyGroup,
    help="Find the quantization scheme and vLLM settings that serve a model best on your hardware, by measuring.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
model = typer.Typer(help="Models to try HAQA with.", no_args_is_help=True)
app.add_typer(model, name="model")

TuningFile = Annotated[Path, typer.Argument(metavar="FILE", help="A QuantizationTuning in YAML")]
Out = Annotated[Path, typer.Option(help="Folder for results; one folder a tuning is made inside")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for machines")]
Plain = Annotated[bool, typer.Option("--no-prefork", help="Start every engine from nothing (about 50 s each on CPU)")]

stderr = Console(stderr=True)


def fail(problems: list[str]) -> typer.Exit:
    """Prints what is wrong, one sentence a line; to be raised."""
    for problem in problems:
        stderr.print(f"[red]error:[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    return typer.Exit(code=2)


@app.command()
def tune(
    file: TuningFile,
    out: Out = Path("results"),
    as_json: AsJson = False,
    pool: Annotated[str | None, typer.Option(help="Only this pool")] = None,
    no_prefork: Plain = False,
) -> None:
    """Tune the model in FILE on this machine, one pool after another; goes on from what was measured before."""
    from haqa_operator.cli.tuning import tune_file

    try:
        succeeded = tune_file(file, out, as_json=as_json, only_pool=pool, prefork=not no_prefork)
    except SpecError as error:
        raise fail(error.problems) from None
    raise typer.Exit(code=0 if succeeded else 1)


@app.command()
def resume(
    what: Annotated[str, typer.Argument(metavar="FILE|TUNING", help="A file, or a tuning of a cluster by its name")],
    out: Out = Path("results"),
    as_json: AsJson = False,
    no_prefork: Plain = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """With a FILE the same as `tune`, which always goes on; with a TUNING of a cluster, `suspend` taken back."""
    if cluster.is_file(what):
        tune(Path(what), out, as_json, None, no_prefork)
    cluster.resume_tuning(what, namespace, context, kubeconfig)


@app.command()
def report(
    what: Annotated[str, typer.Argument(metavar="FILE|TUNING", help="A file, or a tuning of a cluster by its name")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results (default: results); of a TUNING, the page to write")
    ] = None,
    as_json: AsJson = False,
    revision: Annotated[int | None, typer.Option(help="Of a TUNING: the report kept with this answer")] = None,
    pool: Annotated[str | None, typer.Option(help="With --revision: the answer's node pool")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the answer of a tuning, or what it has so far, and write its page again; of one in a cluster, the page."""
    if not cluster.is_file(what):
        cluster.write_report(what, out, revision, pool, as_json, namespace, context, kubeconfig)
        return
    from haqa_operator.cli.tuning import write_reports

    try:
        write_reports(Path(what), out or Path("results"), as_json=as_json)
    except SpecError as error:
        raise fail(error.problems) from None


@app.command()
def show(
    file: TuningFile,
    trial: Annotated[str, typer.Argument(help="Trial name or number")],
    out: Out = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Everything known about one trial: configuration, who proposed it and why, numbers, failure, logs."""
    from haqa_operator.cli.tuning import show_trial

    try:
        show_trial(file, trial, out, as_json=as_json)
    except SpecError as error:
        raise fail(error.problems) from None


@app.command()
def validate(file: TuningFile) -> None:
    """Check FILE and say what to change; measures nothing."""
    try:
        tuning = load_tuning(file)
    except SpecError as error:
        raise fail(error.problems) from None
    if problems := [*metric_problems(tuning), *setting_problems(tuning)]:
        raise fail(problems)
    typer.echo(f"{file}: valid, {len(tuning.spec.node_pools)} pool(s), {len(tuning.spec.constraints)} constraint(s)")
    for line in left_to_haqa(tuning.spec):
        typer.echo(line)
    if (warning := builtin_text_warning(tuning.spec)) is not None:
        stderr.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What this machine has for tuning, what is missing, and the remedy."""
    findings = examine(Path.cwd())
    if as_json:
        rows = [{"what": f.what, "level": f.level, "found": f.found, "remedy": f.remedy} for f in findings]
        typer.echo(json.dumps(rows, indent=2))
    else:
        table = Table(show_header=False, box=None)
        marks = {
            Level.OK: "[green]ok[/green]",
            Level.NOTE: "[yellow]note[/yellow]",
            Level.MISSING: "[red]missing[/red]",
        }
        for finding in findings:
            text = escape(finding.found) + (f"\n[bold]{escape(finding.remedy)}[/bold]" if finding.remedy else "")
            table.add_row(marks[finding.level], escape(finding.what), text)
        Console().print(table)
    if any(finding.level is Level.MISSING for finding in findings):
        raise typer.Exit(code=1)


@app.command()
def schema() -> None:
    """The JSON schema of a QuantizationTuning, for editors and checks."""
    typer.echo(json.dumps(QuantizationTuning.model_json_schema(by_alias=True), indent=2))


@model.command("demo")
def model_demo(
    path: Annotated[Path, typer.Argument(help="Folder to make")] = Path("demo/model"),
    seed: Annotated[int, typer.Option(help="Another seed makes another model")] = 0,
) -> None:
    """Train a small Llama on this machine, in minutes and without a download; does nothing if it is there already."""
    from haqa_operator.cli.demo_model import make_demo_model

    try:
        make_demo_model(path, seed)
    except (SpecError, subprocess.SubprocessError) as error:
        problems = error.problems if isinstance(error, SpecError) else [str(error)]
        raise fail(problems) from None


cluster.add_commands(app)
