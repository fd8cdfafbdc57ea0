"""What became of a trial, read from the states that Kubernetes shows."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.optional import present
from tests.unit.cluster.observe.pods import (
    ARTIFACT,
    STARTUP_S,
    T0,
    JobBuilder,
    PodBuilder,
    failed,
    make_job,
    make_model_job,
    make_model_pod,
    make_pod,
    measured,
)
from tests.unit.contract.endings import ENDINGS

from haqa_contract import FailureReason, TrialReport
from haqa_contract.model_facts import ModelFacts
from haqa_contract.termination import REPORT_PREFIX, compact
from haqa_operator.api.trial import TrialPhase
from haqa_operator.cluster.observe.attempts import LogWanted, TrialObservation, observe_attempt

FACTS = ModelFacts(architecture="LlamaForCausalLM", model_type="llama", source="class", parameters=5)

DONE = measured()
NAME = "demo-here-003-abcde"
GATE = failed(FailureReason.ACCURACY_GATE, "perplexity 31 is above 20; choose another scheme")
REFUSED = failed(FailureReason.LOAD_ERRORS, "12 of 12 requests failed: connection refused")
STOPPED = failed(FailureReason.TIMEOUT, "measure was stopped from outside (SIGTERM) after 3 s")
NO_KERNEL = "ValueError: Failed to find a kernel that can implement the WNA16 linear layer. Reasons:\n"


def observe(
    pods: PodBuilder | list[PodBuilder], job: JobBuilder | None = None, now: float = 300.0, **more: Any
) -> TrialObservation:
    pods = pods if isinstance(pods, list) else [pods]
    return observe_attempt((job or make_job()).obj(), [pod.obj() for pod in pods], T0 + now, **more)


@pytest.mark.parametrize(
    ("pod", "phase"),
    [
        (replace(make_pod(), created=290), TrialPhase.PENDING),
        (make_pod().unschedulable(seconds=290), TrialPhase.PENDING),
        (make_pod().scheduled().waiting("quantize", "PodInitializing"), TrialPhase.PENDING),
        (make_pod().scheduled(295).waiting("quantize", "ErrImagePull", "timeout"), TrialPhase.PENDING),
        (make_pod().scheduled(295).waiting("quantize", "CreateContainerConfigError", "no"), TrialPhase.PENDING),
        (make_pod().scheduled().running("quantize", 2), TrialPhase.QUANTIZING),
        (make_pod().quantized().waiting("vllm", "PodInitializing"), TrialPhase.LOADING),
        (make_pod().quantized().running("vllm", 101, started=False), TrialPhase.LOADING),
        (make_pod().serving().waiting("measure", "PodInitializing"), TrialPhase.LOADING),
        (make_pod().measuring(), TrialPhase.EVALUATING),
    ],
)
def test_a_trial_that_goes_on_is_in_the_phase_of_its_last_step(pod: PodBuilder, phase: TrialPhase) -> None:
    seen = observe(pod)
    assert (seen.phase, seen.report) == (phase, None)
    assert seen.message


def test_success_is_the_reports_of_all_parts_and_the_time_when_measuring_ended() -> None:
    seen = observe(make_pod().measured(DONE), now=9000)
    assert seen.phase is TrialPhase.SUCCEEDED
    assert seen.failure is None
    report = present(seen.report)
    assert (report.artifact, report.load) == (ARTIFACT, DONE.load)
    engine = present(report.engine)
    assert (engine.startup_s, engine.version) == (59, "0.32.0")
    assert "--model=/haqa/model" in engine.args
    assert (seen.started, seen.scheduled, seen.finished) == (T0, T0 + 1, T0 + 260)
    assert (seen.node, seen.logs_wanted) == ("node-1", ())


@pytest.mark.parametrize("exit_code", [0, 137, 143])
def test_how_the_engine_is_stopped_after_the_measurement_does_not_matter(exit_code: int) -> None:
    pod = make_pod().measured(DONE).ended("vllm", exit_code=exit_code, began=101, finished=262)
    assert observe(pod).phase is TrialPhase.SUCCEEDED


def test_a_result_counts_though_its_node_was_drained_afterwards() -> None:
    pod = make_pod().measured(DONE).disrupted().deleted(gone_by=290)
    assert observe(pod).phase is TrialPhase.SUCCEEDED


LOADING = make_pod().quantized()
FAILURES = {
    "no node for a long time": (make_pod().unschedulable(), "Unschedulable", "2 Insufficient nvidia.com/gpu"),
    "no scheduler": (make_pod(), "Unschedulable", "no scheduler has looked at the pod"),
    "kubelet refuses": (
        make_pod().scheduled().failed_as("UnexpectedAdmissionError", "no healthy devices"),
        "Unschedulable",
        "no healthy devices",
    ),
    "node full": (make_pod().scheduled().failed_as("OutOfcpu", "not enough cpu"), "Unschedulable", "OutOfcpu"),
    "secret missing": (
        make_pod().scheduled().waiting("quantize", "CreateContainerConfigError", 'secret "hub" not found'),
        "Unschedulable",
        'secret "hub" not found',
    ),
    "runner's image": (
        make_pod().scheduled().waiting("quantize", "ImagePullBackOff", "not found"),
        "ImagePull",
        "example/haqa-runner:1",
    ),
    "engine's image": (LOADING.waiting("vllm", "ErrImagePull", "denied"), "ImagePull", "vllm-openai-cpu"),
    "image's name": (
        make_pod().scheduled(299).waiting("quantize", "InvalidImageName", "bad"),
        "ImagePull",
        "InvalidImageName",
    ),
    "model not there": (
        make_pod().scheduled().ended("quantize", failed(FailureReason.MODEL_FETCH, "no model X"), exit_code=3),
        "ModelFetch",
        "no model X",
    ),
    "quantize killed": (
        make_pod().scheduled().ended("quantize", "", exit_code=137, reason="OOMKilled"),
        "QuantizationOOM",
        "used more than the memory limit of its container",
    ),
    "quantize killed with its node": (
        make_pod().scheduled().ended("quantize", "", exit_code=137, reason="Error"),
        "QuantizationOOM",
        "its node ran out of memory",
    ),
    "quantize crashed": (
        make_pod().scheduled().ended("quantize", "Traceback\nImportError: numpy\n", exit_code=1),
        "QuantizationFailed",
        "exit code 1): ImportError: numpy",
    ),
    "quantize's command": (
        make_pod().scheduled().ended("quantize", 'exec: "python3" not found', exit_code=128, reason="StartError"),
        "QuantizationFailed",
        "StartError): exec",
    ),
    "engine refuses": (LOADING.restarted(NO_KERNEL), "EngineLoadFailed", "no kernel for the scheme"),
    "engine refuses, seen before it is restarted": (
        LOADING.ended("vllm", NO_KERNEL, exit_code=1, began=101, finished=140),
        "EngineLoadFailed",
        "no kernel for the scheme",
    ),
    "engine killed": (LOADING.restarted("", exit_code=137, reason="OOMKilled"), "EngineOOM", "18432Mi"),
    "engine out of memory by its log": (
        LOADING.restarted("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        "EngineOOM",
        "2.00 GiB",
    ),
    "engine's startup probe": (
        LOADING.restarted("INFO Starting to load model", exit_code=137, began=101, finished=101 + STARTUP_S - 3),
        "Timeout",
        "did not answer /health within 900 s",
    ),
    "engine dies under load": (
        make_pod().measured(REFUSED, exit_code=3).restarted("std::bad_alloc", exit_code=134, finished=200),
        "EngineOOM",
        "could not allocate memory",
    ),
    "engine dies while measure goes on": (
        make_pod().measuring().restarted("", exit_code=139, finished=200),
        "EngineLoadFailed",
        "signal 11",
    ),
    "accuracy": (make_pod().measured(GATE, exit_code=3), "AccuracyGate", "perplexity 31"),
    "load errors": (make_pod().measured(REFUSED, exit_code=3), "LoadErrors", "connection refused"),
    "measure killed": (make_pod().measured("", exit_code=137, reason="OOMKilled"), "LoadErrors", "measure used more"),
    "no report": (make_pod().measured("", exit_code=0), "MetricsMissing", "without a report"),
    "no numbers": (make_pod().measured(TrialReport(trial="t"), exit_code=0), "MetricsMissing", "without numbers"),
    "container's node forgotten": (
        make_pod().measured("", exit_code=137, reason="ContainerStatusUnknown"),
        "Evicted",
        "node-1 is lost",
    ),
}


@pytest.mark.parametrize(("pod", "reason", "words"), FAILURES.values(), ids=FAILURES)
def test_failure_has_its_reason_and_says_what_was_wrong(pod: PodBuilder, reason: str, words: str) -> None:
    # The startup probe's case needs its fifteen minutes.
    seen = observe(pod, now=1200)
    assert seen.phase is TrialPhase.FAILED
    failure = present(seen.failure)
    assert (failure.reason.value, words in failure.message) == (reason, True), failure.message


def test_what_was_found_out_before_a_failure_is_kept() -> None:
    seen = observe(make_pod().measured(GATE, exit_code=3))
    assert present(seen.report).artifact == ARTIFACT
    assert present(seen.report).engine is not None
    assert seen.finished == T0 + 260


def test_engine_that_restarted_before_anybody_measured_has_spoilt_nothing() -> None:
    seen = observe(make_pod().measured(DONE).restarted(finished=120, again=125))
    assert seen.phase is TrialPhase.SUCCEEDED
    assert present(present(seen.report).engine).startup_s == 35


def test_engine_that_restarted_while_it_was_measured_spoils_the_result() -> None:
    seen = observe(make_pod().measured(DONE).restarted(exit_code=139, finished=200))
    assert present(seen.failure).reason is FailureReason.ENGINE_LOAD_FAILED


def test_engine_log_is_asked_for_and_tells_more_than_its_end() -> None:
    end = "RuntimeError: Engine core initialization failed. See root cause above."
    pod = make_pod().quantized().restarted(end)
    first = observe(pod)
    assert first.logs_wanted == (LogWanted(NAME, "vllm", previous=True, line=end),)
    again = observe(pod, logs={"vllm": NO_KERNEL})
    assert present(again.failure).reason is FailureReason.ENGINE_LOAD_FAILED
    assert "no kernel for the scheme" in present(again.failure).message
    assert again.logs_wanted == ()


def test_report_that_does_not_fit_is_read_from_the_log() -> None:
    pod = make_pod().measured("log:")
    first = observe(pod)
    assert (first.report, first.logs_wanted) == (None, (LogWanted(NAME, "measure"),))
    again = observe(pod, logs={"measure": f"INFO x\n{REPORT_PREFIX}{compact(DONE)}\n"})
    assert present(again.report).load == DONE.load


def test_report_whose_log_is_gone_is_missing() -> None:
    failure = present(observe(make_pod().measured("log:"), logs={"measure": ""}).failure)
    assert failure.reason is FailureReason.METRICS_MISSING


def test_measure_that_ends_as_if_all_was_well_is_asked_for_its_log() -> None:
    pod = make_pod().measured("", exit_code=0)
    first = observe(pod)
    assert first.logs_wanted == (LogWanted(NAME, "measure"),)
    again = observe(pod, logs={"measure": "INFO x\nthe load test was interrupted\n"})
    assert present(again.failure).reason is FailureReason.METRICS_MISSING
    assert present(again.failure).log_tail[-1] == "the load test was interrupted"
    assert not again.logs_wanted


def test_deadline_is_a_timeout_whatever_the_stopped_step_reported() -> None:
    job = make_job().condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline", 7200)
    for pods in ([], [make_pod().measured(STOPPED, exit_code=3).deleted(gone_by=7230)]):
        seen = observe(pods, job, now=7300)
        assert present(seen.failure).reason is FailureReason.TIMEOUT
        assert "budget.trialTimeout (7200 s)" in present(seen.failure).message


def test_engine_that_is_stopped_with_its_pod_did_not_fail() -> None:
    stopped = make_pod().quantized().ended("vllm", "", exit_code=143, began=101, finished=290)
    assert observe(stopped.disrupted().deleted(gone_by=330)).phase is TrialPhase.PENDING
    late = make_job().condition("FailureTarget", "DeadlineExceeded", "", 7200)
    assert present(observe(stopped.deleted(gone_by=7230), late, now=7201).failure).reason is FailureReason.TIMEOUT


def test_trial_that_its_queue_has_taken_back_has_no_deadline() -> None:
    pod = make_pod().measuring().deleted(gone_by=90_010)
    assert observe(pod, make_job().suspended(), now=90_000).phase is TrialPhase.PENDING


def test_deadline_does_not_hide_what_failed_before_it() -> None:
    job = make_job().condition("FailureTarget", "DeadlineExceeded", "", 7200)
    failure = present(observe(make_pod().measured(GATE, exit_code=3), job, 7300).failure)
    assert failure.reason is FailureReason.ACCURACY_GATE


@pytest.mark.parametrize(
    "pod",
    [
        make_pod().measuring().disrupted().deleted(gone_by=310),
        make_pod().measured(STOPPED, exit_code=3).disrupted().failed_as("", ""),
        make_pod().scheduled().failed_as("Evicted", "The node was low on resource: memory."),
        make_pod().measuring().deleted(gone_by=310),
    ],
    ids=["drained", "stopped", "evicted", "deleted"],
)
def test_pod_that_the_cluster_ended_is_replaced_and_then_counts_no_more(pod: PodBuilder) -> None:
    waiting = observe(pod)
    assert (waiting.phase, waiting.report) == (TrialPhase.PENDING, None)
    seen = observe([make_pod().another("next", 305).measured(DONE), pod])
    assert seen.phase is TrialPhase.SUCCEEDED
    assert seen.pod == "next"


def test_disruption_ends_the_trial_when_the_job_has_given_up() -> None:
    job = make_job().condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    pod = make_pod().scheduled().failed_as("Evicted", "The node was low on resource: memory.")
    seen = observe(pod, job)
    assert present(seen.failure).reason is FailureReason.EVICTED
    assert "low on resource: memory" in present(seen.failure).message


def test_trial_that_is_evicted_again_and_again_ends() -> None:
    pods = [make_pod().another(f"p{i}", i).failed_as("Evicted", "emptyDir over its limit") for i in range(3)]
    assert observe(pods[:2]).phase is TrialPhase.PENDING
    seen = observe(pods)
    assert (present(seen.failure).reason, seen.disruptions) == (FailureReason.EVICTED, 3)


def test_pod_of_a_lost_node_that_does_not_go_away_ends_the_trial() -> None:
    pod = make_pod().measuring().disrupted("DeletionByTaintManager", "node unreachable").deleted(gone_by=330)
    assert observe(pod, now=380).phase is TrialPhase.PENDING
    seen = observe(pod, now=391)
    assert present(seen.failure).reason is FailureReason.EVICTED
    assert "node-1 is lost" in present(seen.failure).message


def test_job_without_pods_waits_until_it_has_ended() -> None:
    assert observe([]).phase is TrialPhase.PENDING
    queued = observe([], make_job().suspended(), now=90_000)
    assert (queued.phase, queued.report) == (TrialPhase.PENDING, None)
    for job in (make_job().condition("Failed", "PodFailurePolicy", "exit code 1"), make_job().condition("Complete")):
        assert present(observe([], job).failure).reason is FailureReason.METRICS_MISSING


def test_deleted_job_is_no_fault_of_the_configuration() -> None:
    for pods in ([], [make_pod().measuring()], [make_pod().measuring().deleted(gone_by=130)]):
        assert present(observe(pods, make_job().deleted()).failure).reason.transient


def test_fetched_model_is_reported_without_a_measurement() -> None:
    report = TrialReport(trial="fetch", artifact=ARTIFACT.model_copy(update={"facts": FACTS}))
    running = make_model_pod().scheduled().running("quantize", 2)
    assert observe(running, make_model_job()).phase is TrialPhase.QUANTIZING
    seen = observe(make_model_pod().scheduled().ended("quantize", report), make_model_job())
    assert present(present(seen.report).artifact).facts == FACTS
    silent = make_model_pod().scheduled().ended("quantize", "")
    job = make_model_job().condition("Complete")
    assert present(observe(silent, job).failure).reason is FailureReason.METRICS_MISSING


def test_times_may_be_those_of_the_python_client() -> None:
    job = make_job().obj()
    job["status"]["startTime"] = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
    assert observe_attempt(job, [], T0).started == T0


def test_status_with_nothing_in_it_is_pending() -> None:
    pod = make_pod().obj()
    pod["status"] = {"containerStatuses": None, "conditions": None}
    assert observe_attempt(make_job().obj(), [pod], T0).phase is TrialPhase.PENDING


def test_what_measure_says_of_the_engine_is_explained_by_the_engines_own_log() -> None:
    said = failed(FailureReason.ENGINE_LOAD_FAILED, "the engine started but cannot answer a plain request (HTTP 500)")
    pod = make_pod().measured(said, exit_code=3)
    first = observe(pod)
    assert first.logs_wanted == (LogWanted(NAME, "vllm"),)
    again = observe(pod, logs={"vllm": NO_KERNEL})
    assert present(again.failure).reason is FailureReason.ENGINE_LOAD_FAILED
    assert present(again.failure).message.startswith(
        "the engine started but cannot answer a plain request (HTTP 500); its log: "
    )
    assert "no kernel for the scheme" in present(again.failure).message
    assert again.logs_wanted == ()


DEAD_CORE = next(ending for ending in ENDINGS if ending.name == "operator_missing_at_first_request").log


@pytest.mark.parametrize(
    "said",
    [
        failed(FailureReason.ENGINE_LOAD_FAILED, "the engine started but cannot answer a plain request (HTTP 500)"),
        failed(FailureReason.LOAD_ERRORS, "12 of 12 requests failed: HTTP 500"),
        failed(FailureReason.METRICS_MISSING, "/metrics did not answer"),
    ],
)
def test_an_engine_that_died_behind_its_api_server_is_the_cause_of_what_measure_saw(said: str) -> None:
    pod = make_pod().measured(said, exit_code=3)
    assert observe(pod).logs_wanted == (LogWanted(NAME, "vllm"),)
    seen = observe(pod, logs={"vllm": DEAD_CORE})
    assert present(seen.failure).reason is FailureReason.ENGINE_LOAD_FAILED
    assert "no such kernel for this device: cpu_gemm_wna16" in present(seen.failure).message
    assert seen.logs_wanted == ()


def test_requests_that_fail_on_an_engine_that_works_are_the_requests_failure() -> None:
    serving = DEAD_CORE.partition("(Worker pid=298) ERROR")[0]
    seen = observe(make_pod().measured(REFUSED, exit_code=3), logs={"vllm": serving})
    assert present(seen.failure).reason is FailureReason.LOAD_ERRORS


def test_an_engine_that_is_out_of_memory_at_the_first_request_is_not_hopeless() -> None:
    said = failed(FailureReason.ENGINE_LOAD_FAILED, "the engine started but cannot answer a plain request (HTTP 500)")
    raised = "Traceback (most recent call last):\nRuntimeError: CUDA error: out of memory\n"
    log = f"ERROR:    Exception in ASGI application\n{raised}"
    seen = observe(make_pod().measured(said, exit_code=3), logs={"vllm": log})
    assert present(seen.failure).reason is FailureReason.ENGINE_OOM
