"""An answer to a new question that puts the same into the cluster as one there is. Pure.

It has a record of its own, which says what was asked and how it was found, and the pods of the earlier one: what serves
is not started again, what waits to be merged is not proposed twice, and what was taken back stays taken back.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from haqa_operator.api.labels import REVISION_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase
from haqa_operator.cluster.observe.revisions import History, Revision, canonical, pod_labels
from haqa_operator.cluster.rollout import Mark

_ON_ITS_WAY = frozenset({AnswerPhase.DEPLOYING, AnswerPhase.VERIFYING})


@dataclass(frozen=True)
class CarriedOver:
    """How far a new answer is from the start.

    Attributes:
        kept: Annotations of the earlier one's record that hold for it too.
        instead_of: An earlier one that was on its way, and is not any more.
    """

    mark: Mark
    kept: Mapping[str, str]
    instead_of: Revision | None = None


def repeated(history: History, manifests: Sequence[Manifest]) -> Revision | None:
    """The latest answer that puts the same into the cluster, unless another has served since."""
    wanted = _content(manifests)
    same = (one for one in reversed(history.revisions) if one.label and _content(one.answer.manifests) == wanted)
    return next((one for one in same if _counts(history, one)), None)


def carried_over(history: History) -> CarriedOver | None:
    """What the latest answer has from an earlier one with the same pods; None where it has to begin like any other."""
    latest = history.latest
    if latest is None or latest.phase is not AnswerPhase.DECIDED:
        return None
    earlier = (one for one in reversed(history.revisions[:-1]) if one.has_pods_of(latest))
    found = next((one for one in earlier if _counts(history, one)), None)
    if found is None:
        return None
    if found.phase is AnswerPhase.ROLLED_BACK:
        said = f": {found.message}" if found.message else ""
        mark = Mark(AnswerPhase.ROLLED_BACK, f"the same as answer {found.number}, which was rolled back{said}")
        return CarriedOver(mark, found.kept)
    if found.phase is AnswerPhase.DECIDED or history.is_rejected(found):
        return None
    # Retired: the operator ended between two marks.
    phase = found.phase if found.phase in _ON_ITS_WAY else AnswerPhase.SERVING
    mark = Mark(phase, f"the same as answer {found.number}", found.in_place)
    return CarriedOver(mark, found.kept, found if phase in _ON_ITS_WAY else None)


def _counts(history: History, one: Revision) -> bool:
    """Whether its pods are there, are to come, or are not wanted again."""
    serving = history.serving
    serves = serving is not None and one.name == serving.name
    return serves or one.on_its_way or one.phase is AnswerPhase.ROLLED_BACK or history.is_rejected(one)


def _content(manifests: Sequence[Manifest]) -> str:
    """Of what pods and requests depend on: not of evidence in annotations, nor of what tells answers' pods apart."""
    made = []
    for manifest in copy.deepcopy(list(manifests)):
        if (labels := pod_labels(manifest)) is not None:
            labels.pop(REVISION_LABEL, None)
        made.append([manifest["kind"], manifest["metadata"]["name"], manifest["spec"]])
    return canonical(made)
