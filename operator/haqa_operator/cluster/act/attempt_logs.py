"""Observes a Job: what its pods say, and the logs where that is not enough."""

from __future__ import annotations

import logging
from dataclasses import replace

from haqa_operator.cluster.edges.api_server import ApiError, ApiServer
from haqa_operator.cluster.observe.attempts import LogWanted, TrialObservation, observe_attempt
from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.cluster.observe.snapshot import Work

log = logging.getLogger(__name__)

LOG_PATIENCE_S = 60.0
"""How long after a trial's end its logs are asked for, if its node does not answer."""
PODLESS_S = 5.0
"""A Job that has no pod for longer is kept from making one: by a quota, for one."""


def observe_with_logs(
    api: ApiServer, namespace: str, work: Work, now: float, limits: Limits | None = None
) -> TrialObservation:
    """The state of a Job, with the logs that are needed to know it.

    `logs_wanted` is left where they cannot be read now and may be in a moment.
    """
    seen = observe_attempt(work.job, work.pods, now, limits=limits)
    if not seen.logs_wanted:
        return _podless(api, namespace, work, seen, now)
    logs: dict[str, str] = {}
    for wanted in seen.logs_wanted:
        text = _read(api, namespace, wanted)
        if text is None and now < (seen.finished or now) + LOG_PATIENCE_S:
            return seen
        logs[wanted.container] = text or ""
    return observe_attempt(work.job, work.pods, now, logs=logs, limits=limits)


def _read(api: ApiServer, namespace: str, wanted: LogWanted) -> str | None:
    """None if the node does not give it, since it is lost or restarting; empty if the log is gone."""
    try:
        # A container that ended a moment ago may have been restarted meanwhile, and its log is then the one before.
        for previous in (wanted.previous, not wanted.previous):
            text = api.log(namespace, wanted.pod, wanted.container, previous)
            if wanted.line in text:
                return text
    except ApiError as error:
        log.warning("%s/%s: %s", namespace, wanted.pod, error)
        return None
    return ""


def _podless(api: ApiServer, namespace: str, work: Work, seen: TrialObservation, now: float) -> TrialObservation:
    """With the reason why the Job has no pod, which only its events say."""
    waiting = not seen.phase.finished and seen.pod is None and not work.job.get("spec", {}).get("suspend")
    if not waiting or seen.started is None or now < seen.started + PODLESS_S:
        return seen
    try:
        why = api.latest_warning(namespace, str(work.job["metadata"]["uid"]))
    except ApiError as error:
        log.warning("%s/%s: %s", namespace, work.name, error)
        return seen
    return replace(seen, message=f"{seen.message}: {why}") if why else seen
