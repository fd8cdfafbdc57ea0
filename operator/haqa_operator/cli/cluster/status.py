"""A tuning on one screen: is it fine, what is it doing, what did it find, what does it cost, what is stuck. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from haqa_operator.api import NodePool, SpecError, TuningSpec
from haqa_operator.api.loading import parse_status
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import (
    STALE,
    AnswerPhase,
    AnswerStatus,
    BestTrial,
    BudgetUsed,
    Condition,
    PoolPhase,
    PoolStatus,
    TuningPhase,
    TuningStatus,
)
from haqa_operator.cli.cluster.found import FoundTuning
from haqa_operator.cluster.observe.revisions import Revision
from haqa_operator.report import wording
from haqa_operator.report.table import safe_text

_GOOD, _BAD, _WAITING = "green", "red", "yellow"
_PHASES = {
    TuningPhase.SUCCEEDED: _GOOD,
    TuningPhase.FAILED: _BAD,
    TuningPhase.SUSPENDED: _WAITING,
    PoolPhase.SUCCEEDED: _GOOD,
    PoolPhase.FAILED: _BAD,
    PoolPhase.SUSPENDED: _WAITING,
    PoolPhase.AWAITING_APPROVAL: _WAITING,
}
_ENDED = (PoolPhase.SUCCEEDED, PoolPhase.FAILED)


def is_fine(status: TuningStatus) -> bool:
    """Whether nothing needs a person."""
    degraded = condition(status, "Degraded")
    return status.phase is not TuningPhase.FAILED and not (degraded and degraded.status == "True")


def condition(status: TuningStatus, kind: str) -> Condition | None:
    return next((one for one in status.conditions if one.type == kind), None)


def overview(manifests: Sequence[Manifest], *, everywhere: bool = False) -> RenderableType:
    """All tunings, one a line."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    headings = ("tuning", "phase", "pools done", "trials", "best", "what needs a person")
    for heading in ("namespace", *headings) if everywhere else headings:
        table.add_column(heading, overflow="fold")
    for manifest in manifests:
        status, metadata = parse_status(manifest), manifest["metadata"]
        cells = (
            safe_text(str(metadata["name"])),
            _phase(status.phase),
            safe_text(status.pools_done or ""),
            safe_text(status.trials_done or ""),
            safe_text(status.best_speedup or ""),
            safe_text(_trouble(status) or "", _BAD),
        )
        table.add_row(*((safe_text(str(metadata["namespace"])), *cells) if everywhere else cells))
    return table


def status_view(found: FoundTuning) -> RenderableType:
    """One tuning."""
    status = found.status
    try:
        spec = found.spec().spec
    except SpecError:
        spec = None
    head = Text.assemble(safe_text(found.name, "bold"), "  ", _phase(status.phase), "  ", _verdict(status))
    facts = _grid()
    facts.add_row("model", safe_text(str(found.manifest["spec"]["model"]["uri"])))
    if spec is not None and spec.suspend:
        facts.add_row("suspended", Text("spec.suspend is true; `haqa resume` goes on", _WAITING))
    trouble = _trouble(status)
    # What is a pool's stands with the pool.
    if trouble is not None and not any(pool.message and pool.message in trouble for pool in status.pools):
        facts.add_row("stuck", safe_text(trouble, _BAD))
    if (stale := condition(status, STALE)) is not None and stale.status == "True":
        facts.add_row("stale", safe_text(stale.message, _WAITING))
    generation = int(found.manifest["metadata"].get("generation", 1))
    if status.observed_generation not in (None, generation):
        facts.add_row("behind", Text("the spec has changed, and the operator has not looked at it yet", _WAITING))
    elif status.observed_generation is None:
        facts.add_row("waiting", Text("no operator has looked at it yet", _WAITING))
    if len(status.pools) > 1:
        facts.add_row("spent", safe_text("; ".join(_spent(status.budget_used))))
    views = (_pool_view(found, pool, spec) for pool in status.pools)
    return Group(head, facts, *(part for view in views for part in view))


def _verdict(status: TuningStatus) -> Text:
    if not is_fine(status):
        return Text("needs a person", f"bold {_BAD}")
    waiting = [pool.name for pool in status.pools if pool.phase is PoolPhase.AWAITING_APPROVAL]
    if waiting:
        return safe_text(f"pool {', '.join(waiting)} waits for an approval", f"bold {_WAITING}")
    return Text("fine", _GOOD)


def _pool_view(found: FoundTuning, pool: PoolStatus, spec: TuningSpec | None) -> Iterator[RenderableType]:
    asked = next((one for one in spec.node_pools if one.name == pool.name), None) if spec else None
    yield Text()
    yield Text.assemble("pool ", safe_text(pool.name, "bold"), "  ", _phase(pool.phase))
    facts = _grid()
    for name, text in _pool_facts(found, pool, spec, asked):
        facts.add_row(name, text)
    yield facts


def _pool_facts(
    found: FoundTuning, pool: PoolStatus, spec: TuningSpec | None, asked: NodePool | None
) -> Iterator[tuple[str, Text]]:
    if pool.hardware:
        yield "hardware", safe_text(pool.hardware)
    if pool.message:
        degraded = condition(found.status, "Degraded")
        stuck = degraded is not None and degraded.status == "True" and pool.message in degraded.message
        kind = "stuck" if stuck else "why" if pool.phase in _ENDED else "doing"
        yield kind, safe_text(pool.message, _BAD if stuck else "default")
    counts = pool.trials
    if counts.total:
        running = f", {counts.running} running" if counts.running else ""
        of = f", of {pool.candidates:,} candidates" if pool.candidates is not None else ""
        done = f"{counts.succeeded} measured, {counts.failed} failed{running}{of}"
        yield "trials", safe_text(done)
    if pool.best is not None:
        yield "best", _best(pool.best, pool)
    if pool.stopped:
        yield "ended", safe_text(pool.stopped)
    if pool.answer is not None:
        yield from _answer_facts(found, pool, pool.answer)
    yield "spent", safe_text("; ".join((*_spent(pool.budget_used, spec), *_money(pool.budget_used, asked))))
    if spec is not None and pool.phase not in _ENDED:
        yield "at most", safe_text(_left(pool.budget_used, spec))


def _answer_facts(found: FoundTuning, pool: PoolStatus, answer: AnswerStatus) -> Iterator[tuple[str, Text]]:
    style = {AnswerPhase.SERVING: _GOOD, AnswerPhase.ROLLED_BACK: _BAD}.get(answer.phase, "default")
    since = f" since {answer.since}" if answer.since else ""
    message = f": {answer.message}" if answer.message and answer.message not in pool.message else ""
    yield "answer", safe_text(f"{answer.revision} {answer.phase}{since}{message}", style)
    mode = (found.manifest["spec"].get("output") or {}).get("mode", "Apply")
    if answer.serving is not None:
        yield "serves", safe_text(_serving(found, pool, answer.serving))
    elif mode == "Manifest":
        yield "serves", safe_text(f"nothing is applied (output.mode Manifest); `haqa manifest {found.name}` shows it")
    elif mode == "Apply":
        yield "serves", Text("nothing" if answer.phase is AnswerPhase.ROLLED_BACK else "nothing yet", _WAITING)
    if answer.stale:
        yield "stale", safe_text(f"{answer.stale}; `haqa retune {found.name}` measures again", _WAITING)
    if answer.left_behind:
        left = ", ".join(one.replace("/", " ") if "/" in one else f"Deployment {one}" for one in answer.left_behind)
        yield "left behind", safe_text(f"{left}; `haqa prune {found.name}` removes it", _WAITING)


def _serving(found: FoundTuning, pool: PoolStatus, number: int) -> str:
    revision = found_revision(found, pool.name, number)
    if revision is None:
        return f"answer {number}"
    # What makes pods: a Deployment, or what another controller makes one of.
    made = next((one for one in revision.answer.manifests if one["metadata"]["name"] == pool.deployment), None)
    where = f", {made['kind']} {pool.deployment}" if made else ""
    return f"answer {number} ({revision.answer.configuration}){where}"


def found_revision(found: FoundTuning, pool: str, number: int | None) -> Revision | None:
    history = found.histories.get(pool)
    revisions = history.revisions if history is not None else ()
    return next((one for one in revisions if one.number == number), None)


def _best(best: BestTrial, pool: PoolStatus) -> Text:
    text = safe_text(best.configuration, "bold")
    if best.trial == pool.baseline:
        return text.append(" (the baseline)", "dim")
    text.append(f" ({best.trial})", "dim")
    if best.speedup is not None:
        text.append(f"  {wording.ratio_text(best.speedup)}", f"bold {_GOOD}")
        details = [wording.ratio_interval_text(best.speedup)]
        if pool.answer is not None and pool.answer.trial == best.trial:
            details.append("confirmed" if pool.answer.confirmed else "not confirmed")
        text.append(f" {', '.join(filter(None, details))}")
    return text


def _spent(used: BudgetUsed, spec: TuningSpec | None = None) -> Iterator[str]:
    budget = spec.budget if spec else None
    yield _of(f"{used.trials}", budget.max_trials if budget else None, "trials")
    if used.failed_trials or (budget and budget.max_failed_trials):
        yield _of(f"{used.failed_trials}", budget.max_failed_trials if budget else None, "of them failed")
    yield _of(f"{used.gpu_hours:.3g}", budget.max_gpu_hours if budget else None, "accelerator-hours")
    limit = budget.max_duration if budget else None
    took = wording.duration_text(used.duration_seconds)
    yield f"{took} of {_duration(limit)}" if limit else took
    if used.agent_tokens or (budget and budget.max_agent_tokens):
        yield _of(f"{used.agent_tokens:,}", budget.max_agent_tokens if budget else None, "tokens of the LLM")


def _of(used: str, limit: float | None, what: str) -> str:
    return f"{used} of {limit:,g} {what}" if limit is not None else f"{used} {what}"


def _left(used: BudgetUsed, spec: TuningSpec) -> str:
    """What it may still cost."""
    budget = spec.budget
    trials = max(0, budget.max_trials - used.trials)
    parts = [f"{wording.count_text(trials, 'more trial')} of {_duration(budget.trial_timeout)} each"]
    if budget.max_gpu_hours is not None:
        parts.append(f"{max(0.0, budget.max_gpu_hours - used.gpu_hours):.3g} accelerator-hours")
    if budget.max_duration is not None:
        seconds = max(0.0, budget.max_duration.total_seconds() - used.duration_seconds)
        parts.append(wording.duration_text(seconds))
    return "; ".join(parts)


def _money(used: BudgetUsed, pool: NodePool | None) -> Iterator[str]:
    """costPerHour is of a replica's machines; a trial holds one replica."""
    if pool is not None and pool.cost_per_hour is not None:
        replicas = used.gpu_hours / max(1, pool.gpus_per_replica)
        yield f"{pool.cost_per_hour * replicas:.2f} at {pool.cost_per_hour:g} an hour"


def _duration(limit: timedelta) -> str:
    return wording.duration_text(limit.total_seconds())


def _trouble(status: TuningStatus) -> str | None:
    degraded = condition(status, "Degraded")
    return degraded.message or degraded.reason if degraded is not None and degraded.status == "True" else None


def _phase(phase: TuningPhase | PoolPhase) -> Text:
    return Text(phase.value, _PHASES.get(phase, "cyan"))


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=9)
    grid.add_column(overflow="fold")
    return grid


def status_document(manifest: Manifest) -> Manifest:
    """For programs: the tuning without what it asks for."""
    metadata: Mapping[str, object] = manifest["metadata"]
    kept: Iterable[str] = ("name", "namespace", "generation", "creationTimestamp")
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "status": manifest.get("status") or {},
    }
