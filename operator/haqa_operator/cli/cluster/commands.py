"""The commands for a cluster's tunings: each parses, delegates and prints."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console, RenderableType

from haqa_operator.api import Trial
from haqa_operator.api.base import parse_duration
from haqa_operator.api.manifests import Manifest
from haqa_operator.cli.cluster import changes
from haqa_operator.cli.cluster.connection import CommandError, Connection, Context, Kubeconfig, Namespace, connect, told
from haqa_operator.cli.cluster.found import FoundTuning, find_trial, find_tuning, report_of, trials_of
from haqa_operator.cli.cluster.history import history_document, history_view
from haqa_operator.cli.cluster.logs import logs_of
from haqa_operator.cli.cluster.output import Format, Output, write, write_all
from haqa_operator.cli.cluster.status import found_revision, is_fine, overview, status_document, status_view
from haqa_operator.cli.cluster.watching import watch
from haqa_operator.cluster.build.report import kept_report, report_name
from haqa_operator.cluster.edges.api_server import CONFIG_MAP, TUNING
from haqa_operator.cluster.observe.revisions import History, Revision
from haqa_operator.report.model import TuningReport
from haqa_operator.report.table import safe_text, trial_details, trials_table
from haqa_operator.report.wording import count_text
from haqa_operator.serving.deployment import render_yaml

TuningName = Annotated[str, typer.Argument(metavar="TUNING", help="Name of a QuantizationTuning")]
TrialName = Annotated[str, typer.Argument(metavar="TRIAL", help="Name of a QuantizationTrial")]
Pool = Annotated[str | None, typer.Option("--pool", help="Name of the node pool")]
Answer = Annotated[int | None, typer.Option("--revision", help="Number of an answer, as `haqa history` counts them")]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Tunings of all namespaces")]


def add_commands(app: typer.Typer) -> None:
    """Those that `haqa tune` on one machine has no word for already."""
    panel = "In a cluster"
    for command in (status, trials, why, manifest, history, approve, rollback, retry, retune, suspend, logs, prune):
        app.command(rich_help_panel=panel)(command)


def is_file(what: str) -> bool:
    """Whether this names a tuning's file, and not a tuning of a cluster, whose name has neither dot nor slash."""
    return "." in what or "/" in what or Path(what).is_file()


def status(
    tuning: Annotated[str | None, typer.Argument(metavar="TUNING", help="Without a name: all of them")] = None,
    namespace: Namespace = None,
    everywhere: AllNamespaces = False,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Until it is over")] = False,
    output: Output = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Is it fine, what does it do, what did it find, what does it cost, what is stuck. Exit code 1: it is not fine."""
    with told():
        at = connect(namespace, context, kubeconfig)
        if tuning is None:
            if follow:
                raise CommandError("--watch: name the tuning that is to be watched")
            _list(at, output, everywhere=everywhere)
            return
        found = find_tuning(at, tuning)
        if follow:
            found = watch(lambda: find_tuning(at, tuning), Console())
    if output is not None:
        write(status_document(found.manifest), output)
    else:
        _print(status_view(found))
    raise typer.Exit(code=0 if is_fine(found.status) else 1)


def trials(
    tuning: TuningName,
    pool: Pool = None,
    namespace: Namespace = None,
    output: Output = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Every trial of the search: its configuration, its figures, and how it ended."""
    with told():
        at = connect(namespace, context, kubeconfig)
        found = find_tuning(at, tuning)
        chosen = found.chosen(pool)
        report = report_of(found, trials_of(at, found), time.time())
    results = [result for result in report.pools if result.pool in chosen]
    if output is not None:
        write_all([one.model_dump(mode="json", by_alias=True) for result in results for one in result.trials], output)
        return
    if not results:
        typer.echo(f"{tuning}: no trial yet")
    for result in results:
        _print(trials_table(report, result))


def why(
    trial: TrialName,
    namespace: Namespace = None,
    output: Output = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Why a trial was tried, what was expected of it, what was measured, and how it failed."""
    with told():
        at = connect(namespace, context, kubeconfig)
        resource = find_trial(at, trial)
        if output is not None:
            write(resource.trial().model_dump(mode="json", by_alias=True), output)
            return
        found = find_tuning(at, resource.spec.tuning)
        report = report_of(found, trials_of(at, found), time.time(), like=resource)
        _print(_why(report, resource.trial()))


def write_report(
    tuning: str,
    out: Path | None,
    revision: int | None,
    pool: str | None,
    as_json: bool,
    namespace: str | None,
    context: str | None,
    kubeconfig: Path | None,
) -> None:
    """The page of a tuning, or that of an answer as it was kept with it."""
    with told():
        at = connect(namespace, context, kubeconfig)
        found = find_tuning(at, tuning)
        if revision is None:
            report = report_of(found, trials_of(at, found), time.time())
        else:
            report = _kept(at, found, found.one(pool), revision)
        if as_json:
            sys.stdout.write(report.model_dump_json(by_alias=True, indent=1) + "\n")
            return
        from haqa_operator.report.html import render_html

        file = out or Path(f"{tuning}-report.html")
        if file.is_dir():
            file = file / f"{tuning}-report.html"
        try:
            file.write_text(render_html(report), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"--out: {file}: cannot be written ({error.strerror})") from None
    typer.echo(f"report  {file}")


def manifest(
    tuning: TuningName,
    pool: Pool = None,
    revision: Answer = None,
    namespace: Namespace = None,
    output: Output = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """The manifests of the answer on record, as they are applied."""
    with told():
        found = find_tuning(connect(namespace, context, kubeconfig), tuning)
        answers = [_answer(found, name, revision) for name in found.chosen(pool)]
        known = [one for one in answers if one is not None and one.answer.manifests]
        if not known:
            raise CommandError(f"{tuning} has no answer on record yet; `haqa status {tuning}` says how far it is")
    if output is Format.JSON:
        write_all([document for one in known for document in one.answer.manifests], output)
        return
    for one in known:
        answer = one.answer
        head = f"Pool {answer.pool}, answer {one.number} ({one.phase.value}): {answer.configuration}: {answer.reason}"
        sys.stdout.write(render_yaml(answer.manifests, head))


def history(
    tuning: TuningName,
    pool: Pool = None,
    namespace: Namespace = None,
    output: Output = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """The answers on record: how fast, who approved them, how far they came, why one was taken back."""
    with told():
        found = find_tuning(connect(namespace, context, kubeconfig), tuning)
        # Also those of pools that the tuning has no longer.
        names = (pool,) if pool is not None and pool in found.histories else found.chosen(pool)
        gone = found.histories.keys() - set(names) if pool is None else ()
        chosen = {name: found.histories.get(name, History()) for name in (*names, *sorted(gone))}
    if output is not None:
        write_all([document for one in chosen.values() for document in history_document(one)], output)
        return
    for name, one in chosen.items():
        if one.revisions or one.unreadable:
            _print(history_view(name, one))
        else:
            typer.echo(f"pool {name}: no answer on record yet")


def approve(
    tuning: TuningName,
    trial: Annotated[str | None, typer.Option("--trial", help="The winner's; default: the one that waits")] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="24h", help="Ceases to count after this")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Let a winner be deployed, in your name."""
    with told():
        after = _expiry(expires)
        at = connect(namespace, context, kubeconfig)
        made = changes.approve(at, find_tuning(at, tuning, answers=False), trial, after, time.time())
    spec = made["spec"]
    until = f", until {spec['expires']}" if "expires" in spec else ""
    typer.echo(f"approved  {spec['trial']} of {tuning} by {spec['approvedBy']}{until}")


def rollback(
    tuning: TuningName,
    pool: Pool = None,
    revision: Annotated[
        int | None, typer.Option("--revision", help="Answer that shall serve; default: the one before")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Have an earlier answer serve; those after it are not served again until `haqa retry`."""
    with told():
        at = connect(namespace, context, kubeconfig)
        found = find_tuning(at, tuning)
        name = found.one(pool)
        done = changes.reject(at, found, name, revision)
    typer.echo(f"pool {name} goes to answer {done.to.number}: {done.to.answer.configuration}")


def retry(
    tuning: TuningName,
    pool: Pool = None,
    trial: Annotated[str | None, typer.Option("--trial", help="A trial that failed")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Have an answer that was rolled back tried again, or a trial that failed forgotten."""
    with told():
        at = connect(namespace, context, kubeconfig)
        found = find_tuning(at, tuning)
        if trial is not None and pool is None:
            pool = find_trial(at, trial).spec.pool
        done = changes.retry(at, found, found.one(pool), trial)
    typer.echo(done)


def retune(
    tuning: TuningName, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Measure everything anew; what serves goes on until there is another answer."""
    with told():
        at = connect(namespace, context, kubeconfig)
        changes.retune(at, find_tuning(at, tuning, answers=False), time.time())
    typer.echo(f"{tuning} is measured anew; what serves goes on")


def suspend(
    tuning: TuningName, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Start no further trial; those that run end, and what serves goes on."""
    _suspend(tuning, namespace, context, kubeconfig, wanted=True)


def resume_tuning(tuning: str, namespace: str | None, context: str | None, kubeconfig: Path | None) -> None:
    """Takes `haqa suspend` back."""
    _suspend(tuning, namespace, context, kubeconfig, wanted=False)


def logs(
    trial: TrialName,
    container: Annotated[
        str | None, typer.Option("--container", "-c", help="quantize, vllm or measure; default: all")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """What the containers of a trial have printed last."""
    with told():
        at = connect(namespace, context, kubeconfig)
        found = logs_of(at, find_trial(at, trial), container)
    for log in found:
        if len(found) > 1 or container is None:
            typer.echo(f"==> {log.title} <==")
        typer.echo(_printable(log.text).rstrip("\n"))


def prune(
    tuning: TuningName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Without asking")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Remove what was made to serve a tuning's winners and no answer names any more. Exit code 1 if you say no."""
    with told():
        at = connect(namespace, context, kubeconfig)
        found = find_tuning(at, tuning)
        left = changes.left_behind(at, found)
    if not left:
        typer.echo(f"{tuning} has left nothing behind")
        return
    for one in left:
        typer.echo(f"{one['kind']} {one['metadata']['name']}{_replicas(one)}")
    if not yes and not typer.confirm(f"Remove {count_text(len(left), 'object')} from namespace {found.namespace}?"):
        raise typer.Exit(code=1)
    with told():
        for one in left:
            changes.remove(at, found, one)
            typer.echo(f"removed  {one['kind']} {one['metadata']['name']}")


def _why(report: TuningReport, trial: Trial) -> RenderableType:
    if trial.is_confirmation:
        return safe_text(f"{trial.name}: {trial.proposal.reasoning}")
    return trial_details(report, trial, headlines=True)


def _list(at: Connection, output: Format | None, *, everywhere: bool) -> None:
    there = at.api.list(TUNING, None if everywhere else at.namespace)
    there.sort(key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]))
    if output is not None:
        write_all([status_document(one) for one in there], output)
    elif not there:
        typer.echo(
            "no tuning" + ("" if everywhere else f" in namespace {at.namespace}; -A shows those of all namespaces")
        )
    else:
        _print(overview(there, everywhere=everywhere))


def _suspend(tuning: str, namespace: str | None, context: str | None, kubeconfig: Path | None, *, wanted: bool) -> None:
    with told():
        at = connect(namespace, context, kubeconfig)
        changed = changes.suspend(at, find_tuning(at, tuning, answers=False), wanted)
    state = "is suspended" if wanted else "goes on"
    typer.echo(f"{tuning} {state}" + ("" if changed else " already"))


def _answer(found: FoundTuning, pool: str, number: int | None) -> Revision | None:
    one = found.histories.get(pool, History())
    if number is None:
        return one.wanted or one.latest
    revision = found_revision(found, pool, number)
    if revision is None and one.revisions:
        known = ", ".join(str(kept.number) for kept in one.revisions)
        raise CommandError(f"pool {pool} has no answer {number}; on record are {known}")
    return revision


def _kept(at: Connection, found: FoundTuning, pool: str, number: int) -> TuningReport:
    revision = _answer(found, pool, number)
    if revision is None:
        raise CommandError(f"pool {pool} has no answer on record yet")
    name = report_name(revision.name)
    kept: Manifest | None = at.api.get(CONFIG_MAP, name, found.namespace)
    if kept is None:
        raise CommandError(
            f"the report of answer {number} of pool {pool} was not kept (ConfigMap {name}); without --revision it is "
            "made from the trials that are there"
        )
    try:
        return kept_report(kept)
    except (ValidationError, KeyError, OSError, ValueError) as error:
        raise CommandError(f"ConfigMap {name}: not a report that this program knows ({error})") from None


def _expiry(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        after = parse_duration(text)
    except ValueError as error:
        raise CommandError(f"--expires: {error}") from None
    if after <= timedelta(0):
        raise CommandError(f"--expires: {text}: in no time; give a duration like 24h")
    return after


def _replicas(one: Manifest) -> str:
    ready = (one.get("status") or {}).get("readyReplicas")
    return f" ({count_text(int(ready), 'pod')} ready)" if ready else ""


def _printable(text: str) -> str:
    """A log may hold what steers a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _print(view: RenderableType) -> None:
    Console().print(view)
