"""What a tuning has found before it has ended: its journals, read while it runs or after it was interrupted.

A journal is append-only and every line of it is complete or ignored, so reading needs no lock and disturbs nobody.
"""

from __future__ import annotations

from haqa_operator.api import NodePool, QuantizationTuning
from haqa_operator.api.status import MeasuredWith
from haqa_operator.decision.choose import decide
from haqa_operator.decision.results import PoolResult
from haqa_operator.local.journal import read_journal
from haqa_operator.local.manifests import pool_accelerator
from haqa_operator.local.measured_with import recorded_in
from haqa_operator.local.workspace import Workspace
from haqa_operator.tuning.plan import agent_tokens
from haqa_operator.tuning.record import TuningRecord


def unfinished_results(tuning: QuantizationTuning, workspace: Workspace, since: float) -> list[PoolResult]:
    """The pools of a tuning with something recorded after `since` (Unix seconds), as far as they are.

    Nothing says why they ended (`PoolResult.stopped`), since they have not: no winner is settled before that.
    """
    results = []
    for pool in tuning.spec.node_pools:
        journal = workspace.latest_journal(pool.name)
        if journal is not None and journal.stat().st_mtime > since:
            results.append(_so_far(tuning, pool, read_journal(journal), recorded_in(journal.parent)))
    return results


def _so_far(tuning: QuantizationTuning, pool: NodePool, record: TuningRecord, used: MeasuredWith | None) -> PoolResult:
    spec = tuning.spec
    labels = {None, *(variant.label for variant in spec.model.variants)}
    trials = tuple(trial for trial in record.trials if trial.configuration.variant_label in labels)
    decision = decide(trials, spec.objectives, spec.constraints, spec.search.min_improvement_percent)
    confirmation = record.confirmation_of(decision.winner) if decision.winner else None
    ends = [trial.status.finished for trial in trials if trial.status.finished is not None]
    return PoolResult(
        pool=pool.name,
        hardware=pool_accelerator(pool).describe(),
        measured_with=used,
        env=dict(pool.env),
        trials=trials,
        decision=decision,
        confirmation=confirmation,
        started=record.started,
        finished=max(ends, default=record.started),
        machine_hours=sum(trial.status.machine_hours for trial in trials),
        agent_tokens=agent_tokens(trials),
    )
