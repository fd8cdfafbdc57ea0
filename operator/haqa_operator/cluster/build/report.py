"""The report of a cluster's tuning, from its resources; and the object that keeps it with an answer. Pure."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from haqa_operator.api import NodePool, QuantizationTuning, Trial, TuningSpec
from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import MANAGED_BY, POOL_LABEL, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.status import PoolPhase, PoolStatus, Skipped
from haqa_operator.api.tuning import Metadata
from haqa_operator.cluster.edges.api_server import CONFIG_MAP, CONTROLLER_REVISION
from haqa_operator.cluster.names import label
from haqa_operator.decision.choose import decide
from haqa_operator.decision.constraints import References
from haqa_operator.decision.results import Confirmation, Decision, Exclusion, PoolResult, Verdict
from haqa_operator.report.model import TuningReport
from haqa_operator.serving.deployment import render_yaml
from haqa_operator.tuning.confirming import confirming
from haqa_operator.tuning.plan import agent_tokens

PAGE, EVIDENCE = "report.html.gz", "report.json.gz"
"""Keys of the object: a page without plots, and what the whole page is made of again."""
MOST_BYTES = 900 * 1024
"""Of what is kept: an object of the API server has room for 1.5 MiB, and what is in it is in base64."""


def report_name(record: str) -> str:
    """Name of the ConfigMap that keeps an answer's report."""
    return f"{record}-report"


def build_report(
    tuning: QuantizationTuning, results: Sequence[PoolResult], answers: Mapping[str, Answer], now: float
) -> TuningReport:
    """What is known of a tuning.

    Args:
        answers: Pool -> its answer on record, of those that have one.
        now: Unix seconds.
    """
    name, namespace = tuning.metadata.name, tuning.metadata.namespace
    # As a person would write it: without what the API server and the operator have added.
    own = Metadata(name=name, namespace=namespace) if namespace else Metadata(name=name)
    asked = QuantizationTuning(metadata=own, spec=tuning.spec)
    written = asked.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    engines = {one.status.engine_version for result in results for one in result.trials if one.status.engine_version}
    return TuningReport(
        tuning=asked,
        pools=tuple(results),
        command=f"kubectl haqa retune {name}{f' -n {namespace}' if namespace else ''}",
        created=now,
        versions={"haqa": version("haqa"), **({"vllm": ", ".join(sorted(engines))} if engines else {})},
        manifests={pool: render_yaml(answer.manifests) for pool, answer in answers.items() if answer.manifests},
        spec_yaml=render_yaml([{"apiVersion": asked.api_version, "kind": asked.kind, **written}]),
    )


def build_result(
    tuning: QuantizationTuning,
    pool: NodePool,
    status: PoolStatus,
    trials: Sequence[Trial],
    decision: Decision | None = None,
) -> PoolResult:
    """What came of one pool, or has so far.

    Args:
        trials: Those that may be compared, windows that confirm among them.
        decision: None: it is worked out as far as there are trials.
    """
    measured = tuple(trial for trial in trials if not trial.is_confirmation)
    found, confirmation = _decided(tuning.spec, measured, trials)
    starts = [trial.status.started for trial in trials if trial.status.started is not None]
    ends = [trial.status.finished for trial in trials if trial.status.finished is not None]
    over = status.phase is not PoolPhase.SEARCHING and status.phase is not PoolPhase.CONFIRMING
    return PoolResult(
        pool=pool.name,
        hardware=status.hardware or "",
        measured_with=status.measured_with,
        env=dict(pool.env),
        stopped=(status.stopped or "") if over else "",
        candidates=status.candidates or 0,
        exclusions=tuple(_exclusion(skipped) for skipped in status.skipped),
        trials=measured,
        decision=decision or found,
        confirmation=confirmation,
        started=min(starts, default=None),
        finished=max(ends, default=None),
        machine_hours=sum(trial.status.machine_hours for trial in trials),
        agent_tokens=agent_tokens(trials),
    )


def comparable(trials: Sequence[QuantizationTrial], named: str | None) -> tuple[Trial, ...]:
    """The trials of one search by number: those measured as the one that is named, else as the newest.

    Args:
        trials: Of one pool.
    """
    if not trials:
        return ()
    newest = max(trials, key=lambda one: (_created(one), one.spec.number))
    chosen = next((one for one in trials if one.metadata.name == named), newest)
    found = (one.trial() for one in trials if one.spec.fingerprint == chosen.spec.fingerprint)
    return tuple(sorted(found, key=lambda trial: trial.number))


def build_report_map(report: TuningReport, record: Manifest) -> Manifest | None:
    """Keeps a report as long as the answer that it is of; None where it is too large for an object.

    Args:
        record: The ControllerRevision as the API server gave it.
    """
    from haqa_operator.report.html import render_html

    evidence = _packed(report.model_dump_json(by_alias=True))
    page = _packed(render_html(report, plots=False))
    kept = {EVIDENCE: evidence, PAGE: page}
    if sum(map(len, kept.values())) > MOST_BYTES:
        del kept[PAGE]
    if sum(map(len, kept.values())) > MOST_BYTES:
        return None
    metadata = record["metadata"]
    pool = report.pools[0].pool
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {
            "name": report_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {**MANAGED_BY, TUNING_LABEL: label(report.name), POOL_LABEL: label(pool)},
            "ownerReferences": [
                {
                    "apiVersion": CONTROLLER_REVISION.api_version,
                    "kind": CONTROLLER_REVISION.kind,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "binaryData": {name: base64.b64encode(content).decode() for name, content in kept.items()},
    }


def kept_report(report_map: Manifest) -> TuningReport:
    """Raises pydantic.ValidationError, KeyError or OSError: it was not written by this or an earlier operator."""
    packed = base64.b64decode(report_map["binaryData"][EVIDENCE])
    return TuningReport.model_validate_json(gzip.decompress(packed))


def _decided(
    spec: TuningSpec, measured: Sequence[Trial], trials: Sequence[Trial]
) -> tuple[Decision, Confirmation | None]:
    least = spec.search.min_improvement_percent
    decision = decide(measured, spec.objectives, spec.constraints, least)
    winner = next((trial for trial in measured if trial.name == decision.winner), None)
    baseline = References.among(measured).speed
    windows = [trial for trial in trials if winner is not None and trial.proposal.confirms == winner.name]
    if decision.verdict is not Verdict.WINNER or winner is None or baseline is None or not windows:
        return decision, None
    found = confirming(spec, trials, winner, baseline)
    if not isinstance(found, Confirmation):
        return decision, None
    return decide(measured, spec.objectives, spec.constraints, least, found), found


def _created(trial: QuantizationTrial) -> str:
    """RFC 3339 in UTC, as the API server writes it: in the order of time."""
    return str((trial.metadata.model_extra or {}).get("creationTimestamp", ""))


def _exclusion(skipped: Skipped) -> Exclusion:
    pairs = (part.partition("=") for part in skipped.parameters.split(", "))
    return Exclusion(parameters={name: value for name, _, value in pairs}, reason=skipped.reason, configurations=0)


def _packed(text: str) -> bytes:
    """The same for equal text: no time is in it."""
    return gzip.compress(text.encode(), mtime=0)
