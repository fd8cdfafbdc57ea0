"""A pool's answers as the API server keeps them: which serves, which is on its way, which was before. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import (
    ANSWER_MESSAGE_ANNOTATION,
    ANSWER_PHASE_ANNOTATION,
    ANSWER_ROLLOUT_ANNOTATION,
    ANSWER_SINCE_ANNOTATION,
    APPROVED_AT_ANNOTATION,
    APPROVED_BY_ANNOTATION,
    POOL_LABEL,
    PUBLISHED_ANNOTATION,
    REVISION_LABEL,
    VERIFIED_ANNOTATION,
)
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase
from haqa_operator.cluster.observe.pods import unix

REPLACE = "Replace"
"""Value of ANSWER_ROLLOUT_ANNOTATION."""

_KEPT = (APPROVED_BY_ANNOTATION, APPROVED_AT_ANNOTATION, VERIFIED_ANNOTATION, PUBLISHED_ANNOTATION)
"""Annotations that stay from one phase to the next."""
_ON_ITS_WAY = frozenset({AnswerPhase.DECIDED, AnswerPhase.DEPLOYING, AnswerPhase.VERIFYING})
_OUT = frozenset({AnswerPhase.ROLLED_BACK, AnswerPhase.DROPPED})
_SERVING_KINDS = frozenset(
    {
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("policy/v1", "PodDisruptionBudget"),
        ("serving.kserve.io/v1beta1", "InferenceService"),
    }
)
_MEASURING_KINDS = frozenset({("batch/v1", "Job")})


@dataclass(frozen=True)
class Revision:
    """One answer on record.

    Attributes:
        number: Counts the answers of its pool.
        since: When it came to its phase, in Unix seconds.
        in_place: There is no room for a pod beside those that serve.
        kept: Annotations that stay from one phase to the next.
        created: When it was written down, by the API server's clock, in Unix seconds.
    """

    name: str
    number: int
    answer: Answer
    phase: AnswerPhase = AnswerPhase.DECIDED
    since: float = 0.0
    message: str = ""
    in_place: bool = False
    kept: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    created: float = 0.0

    @property
    def label(self) -> str:
        """By which its pods are told from those of other answers."""
        for manifest in self.answer.manifests:
            if (labels := pod_labels(manifest)) is not None:
                return str(labels.get(REVISION_LABEL, ""))
        return ""

    def has_pods_of(self, other: Revision) -> bool:
        """Whether it puts the same into the cluster."""
        return bool(self.label) and self.label == other.label

    def as_marked(self, annotations: Mapping[str, str]) -> Revision:
        """The same answer, as far as these annotations say."""
        known = set(AnswerPhase)
        phase = annotations.get(ANSWER_PHASE_ANNOTATION, AnswerPhase.DECIDED)
        return replace(
            self,
            phase=AnswerPhase(phase) if phase in known else AnswerPhase.DECIDED,
            since=_unix(annotations.get(ANSWER_SINCE_ANNOTATION)),
            message=annotations.get(ANSWER_MESSAGE_ANNOTATION, ""),
            in_place=annotations.get(ANSWER_ROLLOUT_ANNOTATION) == REPLACE,
            kept={name: annotations[name] for name in _KEPT if name in annotations},
        )

    @property
    def on_its_way(self) -> bool:
        return self.phase in _ON_ITS_WAY


@dataclass(frozen=True)
class History:
    """A pool's answers, oldest first.

    Attributes:
        rejected: Names of records that a person does not want to be served.
        unreadable: Why a record cannot be understood.
    """

    revisions: tuple[Revision, ...] = ()
    rejected: frozenset[str] = frozenset()
    unreadable: str | None = None

    @property
    def latest(self) -> Revision | None:
        return self.revisions[-1] if self.revisions else None

    @property
    def readable(self) -> Revision | None:
        """The latest, unless a newer operator has written one that is not understood."""
        return None if self.unreadable else self.latest

    @property
    def wanted(self) -> Revision | None:
        """The one that shall serve: the latest that was neither rolled back nor rejected."""
        fit = (one for one in reversed(self.revisions) if one.phase not in _OUT and not self.is_rejected(one))
        return next(fit, None)

    @property
    def serving(self) -> Revision | None:
        """The one that serves while a later one is on its way, and to which a failure goes back."""
        wanted = self.wanted
        served = (AnswerPhase.SERVING, AnswerPhase.RETIRED)
        fit = (one for one in reversed(self.revisions) if one.phase in served and not self.is_rejected(one))
        return next((one for one in fit if wanted is None or one.number <= wanted.number), None)

    def is_rejected(self, revision: Revision) -> bool:
        """Whether a person does not want it served: by its own name, or that of another with the same pods."""
        rejected = (one for one in self.revisions if one.name in self.rejected)
        return revision.name in self.rejected or any(one.has_pods_of(revision) for one in rejected)

    @property
    def next_number(self) -> int:
        return self.revisions[-1].number + 1 if self.revisions else 1


def read_histories(records: Iterable[Manifest], rejected: Iterable[str] = ()) -> dict[str, History]:
    """Pool -> its answers, of the ControllerRevisions of one tuning."""
    found: dict[str, list[Revision]] = {}
    unreadable: dict[str, str] = {}
    for record in records:
        try:
            revision = read_revision(record)
        except (ValidationError, NotOurRecord) as error:
            pool = _pool_of(record)
            unreadable[pool] = (
                f"ControllerRevision {record['metadata']['name']}: {_why(error)}; if a newer operator has written it, "
                "upgrade this one, else delete it, so that the answer is worked out again"
            )
            found.setdefault(pool, [])
            continue
        found.setdefault(revision.answer.pool, []).append(revision)
    names = frozenset(rejected)
    return {
        pool: History(tuple(sorted(of, key=lambda one: one.number)), names, unreadable.get(pool))
        for pool, of in found.items()
    }


class NotOurRecord(ValueError):
    """No operator writes such a record, and what is in it is not applied; the message says why."""


def read_revision(record: Manifest) -> Revision:
    """Raises pydantic.ValidationError or NotOurRecord: the record is not one of ours, or of a newer operator."""
    metadata = record["metadata"]
    data = record.get("data")
    answer = Answer.model_validate(data if isinstance(data, Mapping) else {})
    _check(answer, str(metadata["namespace"]))
    revision = Revision(
        str(metadata["name"]),
        int(record["revision"]),
        answer,
        uid=str(metadata.get("uid", "")),
        created=unix(metadata.get("creationTimestamp")) or 0.0,
    )
    return revision.as_marked(metadata.get("annotations") or {})


def _check(answer: Answer, namespace: str) -> None:
    """The operator's rights are wider than a tenant's: nothing goes into other namespaces, and no other kinds."""
    jobs = (answer.verification,) if answer.verification is not None else ()
    for manifests, kinds in ((answer.manifests, _SERVING_KINDS), (jobs, _MEASURING_KINDS)):
        for manifest in manifests:
            kind = (str(manifest.get("apiVersion")), str(manifest.get("kind")))
            if kind not in kinds:
                raise NotOurRecord(f"{kind[1]} of {kind[0]} is nothing that an answer consists of")
            metadata, spec = manifest.get("metadata"), manifest.get("spec")
            if not isinstance(metadata, Mapping) or not isinstance(spec, Mapping):
                raise NotOurRecord(f"its {kind[1]} lacks metadata or spec")
            if metadata.get("namespace") != namespace:
                raise NotOurRecord(f"its {kind[1]} is for another namespace, {metadata.get('namespace')}")


def _pool_of(record: Manifest) -> str:
    data = record.get("data")
    named = data.get("pool") if isinstance(data, Mapping) else None
    return str(named or (record["metadata"].get("labels") or {}).get(POOL_LABEL))


def _why(error: ValidationError | NotOurRecord) -> str:
    if isinstance(error, NotOurRecord):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def pod_labels(manifest: Manifest) -> dict[str, str] | None:
    """Labels of the pods that it makes, to be read and written; None where it makes none."""
    spec = manifest.get("spec", {})
    place = spec.get("predictor") or spec.get("template", {}).get("metadata")
    labels: dict[str, str] | None = place.get("labels") if place else None
    return labels


def stamp(now: float) -> str:
    """Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical(value: Any) -> str:
    """The same text for equal JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _unix(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
