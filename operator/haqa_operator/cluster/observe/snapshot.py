"""One tuning as the API server shows it, sorted into pools. Pure: objects in, types out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from haqa_contract.model_facts import ModelFacts
from haqa_operator.api import NodePool, QuantizationTuning, Trial, TrialPhase
from haqa_operator.api.labels import (
    ARTIFACT_LABEL,
    ASKED_BY_ANNOTATION,
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    MANAGED_BY,
    TRIAL_LABEL,
    TUNING_LABEL,
)
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.status import FetchedModel, TuningPhase, TuningStatus
from haqa_operator.cluster.names import ARTIFACT_TRIAL, MEASURE, QUANTIZE, label
from haqa_operator.cluster.observe.pods import Ended, Job, Pod
from haqa_operator.hardware.nodes import Node
from haqa_operator.search.model_profile import ModelProfile, Published
from haqa_operator.serving.adapters import LoraSlots

_LONGEST_NUMBER = 10


@dataclass(frozen=True)
class Work:
    """A Job with its pods.

    Attributes:
        attempt: 1 for the first Job of a trial.
    """

    job: Manifest
    pods: tuple[Manifest, ...]
    attempt: int

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def asked_by(self) -> str:
        """Of a Job that makes an artifact: the trial for which it was made."""
        return str(self.job["metadata"].get("annotations", {}).get(ASKED_BY_ANNOTATION, ""))


@dataclass(frozen=True)
class TuningSnapshot:
    """Everything about one tuning, as it was a moment ago.

    Attributes:
        unreadable_nodes: Pool -> why its nodes could not be listed.
        unreadable_trials: Pool -> why one of its trials cannot be understood: a newer operator has written it.
        silent_nodes: Names of the pools' nodes that do not answer, or say that they are not ready.
        leftovers: Pods without their Job and Jobs without their trial: the garbage collector has not come to them yet.
    """

    tuning: QuantizationTuning
    manifest: Manifest
    trials: tuple[QuantizationTrial, ...]
    trial_manifests: tuple[Manifest, ...]
    work: tuple[Work, ...]
    nodes: Mapping[str, tuple[Node, ...]]
    leftovers: tuple[Manifest, ...] = ()
    silent_nodes: frozenset[str] = frozenset()
    unreadable_nodes: Mapping[str, str] = field(default_factory=dict)
    unreadable_trials: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def generation(self) -> int:
        return int(self.manifest["metadata"].get("generation", 1))

    @property
    def status(self) -> TuningStatus:
        return self.tuning.status or TuningStatus()

    @property
    def model(self) -> FetchedModel | None:
        """What was found out about the model; None where the spec may name another one by now."""
        return known_model(self.status, self.generation)

    def owner(self) -> dict[str, Any]:
        """The reference by which trials go with their tuning."""
        return owner_reference(self.manifest)

    def trials_of(self, pool: NodePool, fingerprint: str) -> tuple[Trial, ...]:
        """The pool's comparable trials by number."""
        found = [t.trial() for t in self.trials if t.spec.pool == pool.name and t.spec.fingerprint == fingerprint]
        return tuple(sorted(found, key=lambda trial: trial.number))

    def resource_of(self, trial: str) -> Manifest | None:
        """The trial's own object."""
        return next((found for found in self.trial_manifests if found["metadata"]["name"] == trial), None)

    def work_of(self, trial: str) -> Work | None:
        """The latest attempt at a trial."""
        return _latest(work for work in self.work if _label(work, TRIAL_LABEL) == label(trial))

    def leaving(self, trial: str, now: float, patience_s: float) -> str | None:
        """What is still there of a trial's earlier Jobs; None once the next one may start.

        Args:
            patience_s: A pod that should have been gone for longer is on a node that is lost, and is not waited for.
        """
        left = (one for one in self.leftovers if one["metadata"].get("labels", {}).get(TRIAL_LABEL) == label(trial))
        return next((str(one["metadata"]["name"]) for one in left if _awaited(one, now, patience_s)), None)

    def lingering(self, trial: str) -> int | None:
        """The attempt of a recorded trial whose Job does not end by itself; None if it has ended or is about to."""
        work = self.work_of(trial)
        if work is None:
            return None
        job, pods = Job.read(work.job), [Pod.read(pod) for pod in work.pods]
        ending = any(pod.over or pod.ended(MEASURE) or _failed(pod.ended(QUANTIZE)) for pod in pods)
        return None if job.complete or job.failed or ending else work.attempt

    def artifact_work(self, artifact: str) -> tuple[Work, ...]:
        """The attempts at making an artifact, in their order."""
        found = (work for work in self.work if _label(work, ARTIFACT_LABEL) == artifact)
        return tuple(sorted(found, key=lambda work: work.attempt))

    def model_work(self) -> Work | None:
        """The latest attempt at fetching the model."""
        return _latest(work for work in self.work if _label(work, COMPONENT_LABEL) == "model")


def read_snapshot(
    tuning: QuantizationTuning,
    manifest: Manifest,
    trials: Sequence[Manifest],
    jobs: Sequence[Manifest],
    pods: Sequence[Manifest],
    nodes: Mapping[str, Sequence[Manifest]],
    unreadable_nodes: Mapping[str, str] | None = None,
    parse: Callable[[Manifest], QuantizationTrial] = QuantizationTrial.model_validate,
) -> TuningSnapshot:
    """Sorts what the API server gave.

    Args:
        parse: Reads a trial's manifest.
    """
    own = [trial for trial in trials if owned_by(trial, manifest)]
    parsed, unreadable_trials = _parsed(own, parse)
    names = {str(trial["metadata"]["uid"]) for trial in own} | {str(manifest["metadata"]["uid"])}
    mine = [job for job in jobs if _made_for(job, names)]
    known = {str(job["metadata"]["uid"]) for job in mine}
    others = [job for job in jobs if str(job["metadata"]["uid"]) not in known]
    orphans = [
        pod for pod in pods if not any(ref["uid"] in known for ref in pod["metadata"].get("ownerReferences", ()))
    ]
    return TuningSnapshot(
        tuning=tuning,
        manifest=manifest,
        trials=parsed,
        trial_manifests=tuple(own),
        work=tuple(Work(job, _pods_of(job, pods), _attempt(job)) for job in mine),
        nodes={pool: tuple(read_node(node) for node in found) for pool, found in nodes.items()},
        leftovers=(*others, *orphans),
        silent_nodes=frozenset(_name(node) for found in nodes.values() for node in found if not _ready(node)),
        unreadable_nodes=unreadable_nodes or {},
        unreadable_trials=unreadable_trials,
    )


def work_selector(tuning: QuantizationTuning, trials: Iterable[Manifest]) -> str | None:
    """Selects the tuning's Jobs and pods that there may be something to do about; None = there are none.

    What succeeded is left out: it may be hundreds, and a kilobyte of each is what makes a reconciliation slow.
    """
    own = tuning_selector(tuning.metadata.name)
    generation = int((tuning.metadata.model_extra or {}).get("generation", 1))
    if known_model(tuning.status or TuningStatus(), generation) is None:
        return own
    open_ = [label(_name(trial)) for trial in trials if trial.get("status", {}).get("phase") != TrialPhase.SUCCEEDED]
    return f"{own},{TRIAL_LABEL} in ({','.join((*open_, ARTIFACT_TRIAL))})" if open_ else None


def known_model(status: TuningStatus, generation: int) -> FetchedModel | None:
    """A tuning that has not started may have been given another model since its status was written."""
    stale = status.phase is TuningPhase.PENDING and status.observed_generation != generation
    return None if stale else status.model


def read_node(node: Manifest) -> Node:
    """Labels and resources of a node."""
    metadata, status = node["metadata"], node.get("status", {})
    return Node(str(metadata["name"]), dict(metadata.get("labels", {})), dict(status.get("allocatable", {})))


def profile_of(model: FetchedModel) -> ModelProfile:
    """The model and its variants as searches know them."""
    facts = (
        ModelFacts.model_validate_json(model.facts)
        if model.facts is not None
        # Written by an operator that did not ask for them.
        else ModelFacts(architecture="unknown", model_type="", source="nothing", parameters=0)
    )
    variants = tuple(
        Published(one.variant, one.weight_bytes, one.quantization, one.predicted_tokens) for one in model.variants
    )
    return ModelProfile(facts, variants, LoraSlots.of(model.adapters))


def owner_reference(owner: Manifest) -> dict[str, Any]:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        # False: deleting never waits for anything of ours.
        "blockOwnerDeletion": False,
    }


def selector_of(pool: NodePool) -> str:
    """The pool's nodeSelector as the API server's label selector."""
    return label_selector(pool.node_selector)


def label_selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def tuning_selector(tuning: str) -> str:
    return f"{TUNING_LABEL}={label(tuning)}"


def _parsed(
    trials: Iterable[Manifest], parse: Callable[[Manifest], QuantizationTrial]
) -> tuple[tuple[QuantizationTrial, ...], dict[str, str]]:
    parsed, unreadable = [], {}
    for trial in trials:
        try:
            parsed.append(parse(trial))
        except ValidationError as error:
            (where, what), more = _first(error), error.error_count() - 1
            unreadable[str(trial.get("spec", {}).get("pool"))] = (
                f"QuantizationTrial {_name(trial)}: {where}: {what}{f' (and {more} more)' if more else ''}; if a newer "
                "operator has written it, upgrade this one, else delete it, so that it is measured again"
            )
    return tuple(parsed), unreadable


def _first(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]


def owned_by(child: Manifest, owner: Manifest) -> bool:
    return any(ref["uid"] == owner["metadata"]["uid"] for ref in child["metadata"].get("ownerReferences", ()))


def _pods_of(job: Manifest, pods: Sequence[Manifest]) -> tuple[Manifest, ...]:
    return tuple(pod for pod in pods if owned_by(pod, job))


def _failed(step: Ended | None) -> bool:
    return step is not None and step.exit_code != 0


def _awaited(leftover: Manifest, now: float, patience_s: float) -> bool:
    if leftover["kind"] != "Pod":
        return True
    pod = Pod.read(leftover)
    return not pod.over and (pod.gone_by is None or now < pod.gone_by + patience_s)


def _ready(node: Manifest) -> bool:
    conditions = node.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _name(thing: Manifest) -> str:
    return str(thing["metadata"]["name"])


def _attempt(job: Manifest) -> int:
    """1 also for what somebody else has labelled."""
    text = str((job["metadata"].get("labels") or {}).get(ATTEMPT_LABEL, "1"))
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else 1


def _label(work: Work, name: str) -> str:
    return str(work.job["metadata"].get("labels", {}).get(name, ""))


def _made_for(job: Manifest, uids: Collection[str]) -> bool:
    """Whether the operator made it for one of these; others may name them as owners too."""
    labels = job["metadata"].get("labels") or {}
    ours = all(labels.get(name) == value for name, value in MANAGED_BY.items())
    return ours and any(
        ref["uid"] in uids and ref.get("controller") for ref in job["metadata"].get("ownerReferences") or ()
    )


def latest_work(jobs: Iterable[Manifest], pods: Sequence[Manifest]) -> Work | None:
    """Of several attempts at one thing."""
    return _latest(Work(job, _pods_of(job, pods), _attempt(job)) for job in jobs)


def _latest(found: Iterable[Work]) -> Work | None:
    return max(found, key=lambda work: work.attempt, default=None)
