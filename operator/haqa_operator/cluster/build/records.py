"""Answers as objects: the record that keeps one, what it puts into the cluster, and the Job that verifies it. Pure."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace

from haqa_contract import TrialRequest, Workload
from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import (
    ANSWER_MESSAGE_ANNOTATION,
    ANSWER_PHASE_ANNOTATION,
    ANSWER_ROLLOUT_ANNOTATION,
    ANSWER_SINCE_ANNOTATION,
    MANAGED_BY,
    POOL_LABEL,
    REQUEST_ANNOTATION,
    REVISION_LABEL,
    TUNING_LABEL,
    VERIFIED_ANNOTATION,
)
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase
from haqa_operator.cluster.build.trial_job import TrialPod, build_runner_job, request_text
from haqa_operator.cluster.edges.api_server import CONTROLLER_REVISION
from haqa_operator.cluster.names import MEASURE, VERIFY, label
from haqa_operator.cluster.observe.revisions import REPLACE, Revision, canonical, pod_labels, stamp
from haqa_operator.cluster.observe.snapshot import owner_reference
from haqa_operator.cluster.rollout import Layout, Mark
from haqa_operator.serving.names import dns_label

_HELD_S = 7 * 24 * 3600
"""How long the new pods of a held Deployment would have to be ready before they count: longer than anybody waits."""
_LABEL_DIGITS = 10
_LONGEST_MESSAGE = 2000


def record_name(tuning: str, pool: str, key: str, after: str) -> str:
    """Equal for equal answers that follow the same one: a record that is created twice is one record."""
    digest = hashlib.sha256(f"{key}\0{after}".encode()).hexdigest()[:_LABEL_DIGITS]
    return dns_label(tuning, pool, digest)


def build_record(answer: Answer, name: str, number: int, namespace: str, owner: Manifest, now: float) -> Manifest:
    """A ControllerRevision: the API server lets nobody change its data."""
    return {
        "apiVersion": CONTROLLER_REVISION.api_version,
        "kind": CONTROLLER_REVISION.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**MANAGED_BY, TUNING_LABEL: label(answer.tuning), POOL_LABEL: label(answer.pool)},
            "annotations": {ANSWER_PHASE_ANNOTATION: AnswerPhase.DECIDED.value, ANSWER_SINCE_ANNOTATION: stamp(now)},
            "ownerReferences": [owner],
        },
        "revision": number,
        "data": answer.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def build_mark(
    revision: Revision,
    namespace: str,
    mark: Mark,
    now: float,
    more: Mapping[str, str] | None = None,
) -> Manifest:
    """The annotations that say how far an answer is, to be applied to its record.

    Args:
        more: Who approved it, and when.
    """
    verified = {key: value.model_dump() for key, value in mark.verified.items()}
    as_before = revision.since > 0 and (mark.phase, mark.in_place) == (revision.phase, revision.in_place)
    annotations = {
        **revision.kept,
        ANSWER_PHASE_ANNOTATION: mark.phase.value,
        ANSWER_SINCE_ANNOTATION: stamp(revision.since if as_before else now),
        **({ANSWER_MESSAGE_ANNOTATION: mark.message[:_LONGEST_MESSAGE]} if mark.message else {}),
        **({ANSWER_ROLLOUT_ANNOTATION: REPLACE} if mark.in_place else {}),
        **({VERIFIED_ANNOTATION: canonical(verified)} if verified else {}),
        **(more or {}),
    }
    return {
        "apiVersion": CONTROLLER_REVISION.api_version,
        "kind": CONTROLLER_REVISION.kind,
        "metadata": {"name": revision.name, "namespace": namespace, "annotations": annotations},
        "revision": revision.number,
    }


def with_revision(manifests: tuple[Manifest, ...], revision: str) -> tuple[Manifest, ...]:
    """The manifests of an answer whose Deployment's pods say which answer they are of.

    Args:
        revision: Value of their label.
    """
    made = copy.deepcopy(manifests)
    for manifest in made:
        if (labels := pod_labels(manifest)) is not None:
            labels[REVISION_LABEL] = revision
    return made


def laid_out(layout: Layout) -> tuple[Manifest, ...]:
    """What is applied of an answer as long as the layout holds."""
    made: list[Manifest] = []
    for recorded in layout.revision.answer.manifests:
        manifest = copy.deepcopy(recorded)
        match manifest["kind"]:
            case "Deployment":
                manifest["spec"] |= _strategy(layout, int(manifest["spec"]["progressDeadlineSeconds"]))
            case "Service" if layout.service is not None:
                manifest["spec"]["selector"] |= dict(layout.service)
            case _ if layout.service is None:
                # Nothing is to be left of what does not come up.
                continue
        made.append(manifest)
    return tuple(made)


def _strategy(layout: Layout, deadline_s: int) -> Manifest:
    surge = 0 if layout.in_place else 1
    held_s = _HELD_S if layout.hold else 0
    return {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge}},
        "minReadySeconds": held_s,
        "progressDeadlineSeconds": held_s + deadline_s,
    }


def build_verification(pod: TrialPod, workload: Workload) -> Manifest:
    """The Job that measures a pod of an answer, without the pod's address and without a name.

    Args:
        pod: Its request is the winning trial's.
        workload: The trial's; one window of each level is enough.
    """
    request = pod.request.model_copy(
        update={
            "trial": VERIFY,
            "accuracy": False,
            "gates": (),
            "load_gates": (),
            "baseline": False,
            "report": None,
            "scrape_grace_s": 0.0,
            "workload": workload.model_copy(update={"repeats": 1}),
        }
    )
    return build_runner_job(
        replace(pod, request=request),
        component=VERIFY,
        name=VERIFY,
        resources=pod.measure_resources,
        step=VERIFY,
        container=MEASURE,
    )


def verification_job(revision: Revision, attempt: int, address: str) -> Manifest:
    """The recorded Job with a name of its own, for one pod."""
    if revision.answer.verification is None:
        raise ValueError(f"{revision.name} has no verification on record")
    job = copy.deepcopy(revision.answer.verification)
    metadata = job["metadata"]
    metadata["name"] = verification_name(revision.name, attempt)
    record = {"name": revision.name, "uid": revision.uid}
    kind = CONTROLLER_REVISION
    metadata["ownerReferences"] = [
        owner_reference({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": record})
    ]
    template = job["spec"]["template"]["metadata"]
    for labels in (metadata["labels"], template["labels"]):
        labels[REVISION_LABEL] = label(revision.name)
    request = TrialRequest.model_validate_json(template["annotations"][REQUEST_ANNOTATION])
    aimed = request.model_copy(
        update={"trial": metadata["name"], "engine": request.engine.model_copy(update={"host": address})}
    )
    template["annotations"][REQUEST_ANNOTATION] = request_text(aimed)
    return job


def verification_name(record: str, attempt: int) -> str:
    return dns_label(record, VERIFY, str(attempt))
