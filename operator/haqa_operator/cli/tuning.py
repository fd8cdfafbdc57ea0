"""`haqa tune`, `report` and `show`: from the file to the screen."""

from __future__ import annotations

import json
import shlex
import sys
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from haqa_operator.api import QuantizationTuning, SpecError, Trial, load_tuning
from haqa_operator.api.paths import resolved
from haqa_operator.cli.live import JsonLines, LiveTable
from haqa_operator.decision.results import PoolResult, Verdict
from haqa_operator.local.environments import runner_environment, serving_environment
from haqa_operator.local.manifests import winner_manifest
from haqa_operator.local.tuning import LocalTuning
from haqa_operator.local.unfinished import unfinished_results
from haqa_operator.local.workspace import Workspace
from haqa_operator.replay.tables.export import export_table, notes_of
from haqa_operator.report.html import render_html
from haqa_operator.report.model import TuningReport
from haqa_operator.report.table import summary, trial_details
from haqa_operator.report.wording import count_text


def tune_file(file: Path, out: Path, *, as_json: bool, only_pool: str | None, prefork: bool) -> bool:
    """Tunes a file and writes its results; whether every pool has a winner or a baseline to serve.

    Raises:
        SpecError: with everything that has to change first.
    """
    tuning = resolved(load_tuning(file), file.resolve().parent)
    workspace = Workspace.of(out, tuning.metadata.name)
    console = Console(stderr=as_json)
    command = shlex.join(["haqa", "tune", str(file), *(["--pool", only_pool] if only_pool else [])])
    live = LiveTable(tuning.spec, console)
    observer = JsonLines() if as_json else live
    results: list[PoolResult] = []

    def keep(result: PoolResult) -> None:
        results.append(result)
        _write(tuning, file, workspace, results, command)

    with nullcontext() if as_json else live:
        LocalTuning(tuning, out, observer, prefork=prefork, only=only_pool).run(keep)
    _print(tuning, file, workspace, results, command, as_json=as_json)
    return all(result.decision.verdict in (Verdict.WINNER, Verdict.BASELINE_BEST) for result in results)


def write_reports(file: Path, out: Path, *, as_json: bool) -> None:
    """Prints what a tuning has found, or has found so far, and writes its report again, from what is on disk."""
    tuning, workspace, report = _recorded(file, out)
    results = list(report.pools)
    if _unfinished(results):
        # report.json stays the record of what has ended.
        workspace.report.write_text(render_html(report), encoding="utf-8")
    else:
        _write(tuning, file, workspace, results, report.command)
    _print(tuning, file, workspace, results, report.command, as_json=as_json)
    if not as_json:
        _print_unfinished(results, report.command)


def show_trial(file: Path, name: str, out: Path, *, as_json: bool) -> None:
    """Prints one trial."""
    _, workspace, report = _recorded(file, out)
    trial = _find(report, name)
    if as_json:
        sys.stdout.write(trial.model_dump_json(by_alias=True, indent=2) + "\n")
        return
    folders = sorted((workspace.root / trial.pool).glob(f"*/trials/{trial.name}"))
    Console().print(trial_details(report, trial, str(folders[-1]) if folders else None))
    _print_unfinished([pool for pool in report.pools if pool.pool == trial.pool], report.command)


def _recorded(file: Path, out: Path) -> tuple[QuantizationTuning, Workspace, TuningReport]:
    """What is on disk of a tuning: the answers of pools that have ended, the trials of those that have not."""
    tuning = resolved(load_tuning(file), file.resolve().parent)
    workspace = Workspace.of(out, tuning.metadata.name)
    ended = None
    if workspace.report_json.is_file():
        ended = TuningReport.model_validate_json(workspace.report_json.read_bytes())
    newer = unfinished_results(tuning, workspace, since=ended.created if ended else 0)
    if ended is not None and not newer:
        return tuning, workspace, ended
    if not newer:
        raise SpecError([f"{workspace.root}: no results of {tuning.metadata.name!r}; run `haqa tune {file}` first"])
    by_pool = {result.pool: result for result in (*(ended.pools if ended else ()), *newer)}
    command = shlex.join(["haqa", "tune", str(file)])
    return tuning, workspace, _report(tuning, file, list(by_pool.values()), command)


def _unfinished(results: list[PoolResult]) -> list[PoolResult]:
    return [result for result in results if not result.stopped]


def _print_unfinished(results: list[PoolResult], command: str) -> None:
    for result in _unfinished(results):
        count, ended = len(result.trials), sum(trial.status.phase.finished for trial in result.trials)
        recorded = f"{count_text(count, 'trial')} recorded, {ended} of them finished" if count else "no trial recorded"
        Console().print(
            f"pool {result.pool}: still running or interrupted: {recorded}; go on with `{command}`",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def _find(report: TuningReport, name: str) -> Trial:
    trials = [trial for pool in report.pools for trial in pool.trials]
    found = [trial for trial in trials if name in (trial.name, str(trial.number))]
    if len(found) == 1:
        return found[0]
    known = ", ".join(trial.name for trial in trials)
    problem = "is in more than one pool; give its name" if found else "is not a trial"
    raise SpecError([f"{name!r} {problem}; there are {known}"])


def _report(tuning: QuantizationTuning, file: Path, results: list[PoolResult], command: str) -> TuningReport:
    versions = {"haqa": version("haqa"), **serving_environment().versions(), **runner_environment().versions()}
    manifests = {
        result.pool: manifest
        for result in results
        if result.stopped and (manifest := winner_manifest(tuning, result)) is not None
    }
    return TuningReport(
        tuning=tuning,
        pools=tuple(results),
        command=command,
        created=time.time(),
        versions=versions,
        manifests=manifests,
        spec_yaml=file.read_text(encoding="utf-8"),
    )


def _write(
    tuning: QuantizationTuning, file: Path, workspace: Workspace, results: list[PoolResult], command: str
) -> None:
    report = _report(tuning, file, results, command)
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.report.write_text(render_html(report), encoding="utf-8")
    workspace.report_json.write_text(report.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
    for result in results:
        table = export_table(result.trials, notes_of(tuning, result, command), result.expected)
        workspace.table(result.pool).write_text(table, encoding="utf-8")
    for pool, manifest in report.manifests.items():
        workspace.deployment(pool).write_text(manifest, encoding="utf-8")


def _print(
    tuning: QuantizationTuning,
    file: Path,
    workspace: Workspace,
    results: list[PoolResult],
    command: str,
    *,
    as_json: bool,
) -> None:
    report = _report(tuning, file, results, command)
    if as_json:
        body = json.loads(report.model_dump_json(by_alias=True))
        sys.stdout.write(json.dumps({"event": "result", "report": body}) + "\n")
        return
    console = Console()
    console.print(summary(report))
    console.print(f"report    {workspace.report}", highlight=False, soft_wrap=True)
    for pool in report.manifests:
        console.print(f"manifest  {workspace.deployment(pool)}", highlight=False, soft_wrap=True)
