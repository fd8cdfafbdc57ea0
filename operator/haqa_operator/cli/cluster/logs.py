"""What a trial's pods have printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from haqa_operator.api.labels import ASKED_BY_ANNOTATION, TRIAL_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.cli.cluster.connection import CommandError, Connection
from haqa_operator.cluster.edges.api_server import JOB, POD
from haqa_operator.cluster.names import ARTIFACT_TRIAL, label
from haqa_operator.cluster.observe.snapshot import label_selector, owned_by, tuning_selector


@dataclass(frozen=True)
class Log:
    """Of one container, or what is left of it."""

    title: str
    text: str


def logs_of(at: Connection, trial: QuantizationTrial, container: str | None) -> tuple[Log, ...]:
    """In the order in which the containers ran; what the trial's status has kept, where the pods are gone.

    Raises:
        CommandError: there is nothing, or no such container.
    """
    pods = [
        *_artifact_pods(at, trial),
        *at.api.list(POD, at.namespace, label_selector({TRIAL_LABEL: label(trial.metadata.name)})),
    ]
    names = [name for pod in pods for name in _containers(pod)]
    if container is not None and names and container not in names:
        raise CommandError(
            f"{trial.metadata.name} has no container {container!r}; it has {', '.join(dict.fromkeys(names))}"
        )
    found = [
        Log(f"{pod['metadata']['name']}/{name}", text)
        for pod in pods
        for name in _containers(pod)
        if container in (None, name) and (text := at.api.log(at.namespace, pod["metadata"]["name"], name))
    ]
    failure = trial.status.failure if trial.status else None
    if not found and failure is not None and failure.log_tail:
        return (Log("its pods are gone; the end of the log, from the trial's status", "\n".join(failure.log_tail)),)
    if not found:
        why = "have printed nothing yet" if pods else "are not there, or not any more"
        raise CommandError(f"{trial.metadata.name} has no log: its pods {why}")
    return tuple(found)


def _artifact_pods(at: Connection, trial: QuantizationTrial) -> Iterator[Manifest]:
    """Of the Job that has made what the trial serves, where it was made for this trial."""
    chosen = f"{tuning_selector(trial.spec.tuning)},{label_selector({TRIAL_LABEL: ARTIFACT_TRIAL})}"
    for job in at.api.list(JOB, at.namespace, chosen):
        if (job["metadata"].get("annotations") or {}).get(ASKED_BY_ANNOTATION) == trial.metadata.name:
            yield from (pod for pod in at.api.list(POD, at.namespace, chosen) if owned_by(pod, job))


def _containers(pod: Manifest) -> tuple[str, ...]:
    spec = pod["spec"]
    return tuple(str(one["name"]) for one in (*spec.get("initContainers", ()), *spec["containers"]))
