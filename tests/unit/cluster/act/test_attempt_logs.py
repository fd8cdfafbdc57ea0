"""Logs that a node does not give are waited for, but not for ever; a Job without a pod says what its events say."""

from __future__ import annotations

from typing import cast

from tests.unit.cluster.observe.pods import T0, make_job, make_pod

from haqa_contract import FailureReason
from haqa_operator.api import TrialPhase
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.act.attempt_logs import LOG_PATIENCE_S, observe_with_logs
from haqa_operator.cluster.edges.api_server import ApiError, ApiServer
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.snapshot import Work

MEASURED_AT = 300.0


class Node:
    """Stands in for the API server: gives a log or none, and has events."""

    def __init__(self, log: str | None = None, warning: str | None = None, previous: str = "") -> None:
        self._log, self._warning, self._previous = log, warning, previous

    def log(self, namespace: str, pod: str, container: str, previous: bool) -> str:
        if self._log is None:
            raise ApiError("the node does not answer")
        return self._previous if previous else self._log

    def latest_warning(self, *_: object) -> str | None:
        return self._warning


def observe(node: Node, seconds: float, *pods: Manifest) -> TrialObservation:
    job = make_job().obj()
    job["metadata"]["uid"] = "job-1"
    return observe_with_logs(cast(ApiServer, node), "team", Work(job, pods, 1), T0 + seconds)


def test_a_report_in_the_log_of_a_node_that_does_not_answer_is_waited_for() -> None:
    pod = make_pod().measured("log:").obj()
    seen = observe(Node(), MEASURED_AT, pod)
    assert seen.logs_wanted
    assert not seen.phase.finished
    late = observe(Node(), MEASURED_AT + LOG_PATIENCE_S, pod)
    assert late.failure
    assert late.failure.reason is FailureReason.METRICS_MISSING


def test_the_engines_log_is_done_without_once_its_node_is_silent_for_long() -> None:
    pod = make_pod().quantized().restarted("std::bad_alloc", exit_code=134, finished=200).obj()
    assert observe(Node(), 210, pod).logs_wanted
    late = observe(Node(), 200 + LOG_PATIENCE_S + 1, pod)
    assert not late.logs_wanted
    assert late.failure
    assert late.failure.reason is FailureReason.ENGINE_OOM


def test_the_log_is_that_of_the_run_that_ended_though_the_engine_was_restarted_meanwhile() -> None:
    whole = "ValueError: the cause, long before the end\nRuntimeError: see root cause above\n"
    ended = whole.splitlines()[1]
    pod = make_pod().quantized().ended("vllm", ended, exit_code=1, began=101, finished=140).obj()
    seen = observe(Node("INFO starting again", previous=whole), 141, pod)
    assert seen.failure
    assert "ValueError: the cause" in "\n".join(seen.failure.log_tail)


def test_a_job_that_can_make_no_pod_says_why() -> None:
    quota = 'FailedCreate: pods "x" is forbidden: exceeded quota: memory'
    seen = observe(Node(warning=quota), 30)
    assert seen.phase is TrialPhase.PENDING
    assert quota in seen.message


def test_a_job_whose_events_cannot_be_read_just_has_no_pod_yet() -> None:
    class Silent(Node):
        def latest_warning(self, *_: object) -> str | None:
            raise ApiError("the API server does not answer")

    assert observe(Silent(), 30).message == "waiting for its pod"


def test_a_log_that_has_nothing_of_the_run_that_ended_is_done_without() -> None:
    ended = "RuntimeError: see root cause above"
    pod = make_pod().quantized().ended("vllm", ended, exit_code=1, began=101, finished=140).obj()
    seen = observe(Node("INFO another run", previous="INFO one before"), 141, pod)
    assert not seen.logs_wanted
    assert seen.failure
    assert ended in "\n".join(seen.failure.log_tail)
