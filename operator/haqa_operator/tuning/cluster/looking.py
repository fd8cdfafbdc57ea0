"""Looks at a Job: what its pods say, and the logs where that is not enough."""

from __future__ import annotations

from haqa_operator.executors.pod_outcome import TrialObservation, observe_trial
from haqa_operator.tuning.cluster.objects import Objects
from haqa_operator.tuning.cluster.snapshot import Work


def observe(objects: Objects, namespace: str, work: Work, now: float) -> TrialObservation:
    """The state of a Job, with the logs that it takes to tell."""
    seen = observe_trial(work.job, work.pods, now)
    if not seen.logs_wanted:
        return seen
    logs = {
        wanted.container: objects.log(namespace, wanted.pod, wanted.container, wanted.previous)
        for wanted in seen.logs_wanted
    }
    return observe_trial(work.job, work.pods, now, logs=logs)
