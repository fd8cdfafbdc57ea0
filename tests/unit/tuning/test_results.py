"""A trial's status from its report; attempts that failed by no fault of the configuration stay in record and bill."""

from __future__ import annotations

from tests.unit.metrics.scrapes import window

from haqa_contract import LoadReport, TrialReport, Window, Workload
from haqa_operator.api import TrialPhase, TrialStatus
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.retries import attempt_noted, with_earlier_attempts
from haqa_operator.tuning.results import trial_status

EVICTED = TrialObservation(TrialPhase.FAILED, "Evicted: drained", scheduled=1000.0, finished=4600.0)


def source_of(*windows: Window) -> str | None:
    report = TrialReport(trial="t", load=LoadReport(windows=windows))
    return trial_status(
        report, Workload(), cost_per_hour=None, accelerators=1, started=0, finished=1, attempts=1
    ).source


def test_the_source_is_that_of_the_windows_that_count() -> None:
    aside = window(0, 5, invalid="the load generator was starved")
    assert source_of(aside, window(6, 11, source="prometheus")) == "prometheus"
    assert source_of(aside) == "engine-metrics"
    assert source_of() is None


def test_the_longest_request_that_the_engine_took_is_in_the_status() -> None:
    measured = TrialReport(trial="t").merged(TrialReport(trial="t", max_model_len=4096))
    status = trial_status(measured, Workload(), cost_per_hour=None, accelerators=1, started=0, finished=1, attempts=1)
    assert status.max_model_len == 4096


def test_an_attempt_that_failed_is_noted_and_the_next_one_due() -> None:
    status = attempt_noted(TrialStatus(phase=TrialPhase.EVALUATING), EVICTED, 1, accelerators=2)
    assert (status.phase, status.attempts) == (TrialPhase.PENDING, 2)
    assert status.warnings == ("attempt 1: Evicted: drained",)
    assert status.machine_hours == 2


def test_a_pod_that_never_had_a_node_costs_nothing() -> None:
    never = TrialObservation(TrialPhase.FAILED, "Unschedulable: full", started=1000.0, finished=4600.0)
    assert attempt_noted(TrialStatus(), never, 1, accelerators=2).machine_hours == 0


def test_the_final_status_keeps_what_earlier_attempts_cost_and_why_they_ended() -> None:
    before = attempt_noted(TrialStatus(), EVICTED, 1, accelerators=1)
    final = TrialStatus(phase=TrialPhase.SUCCEEDED, attempts=2, machine_hours=0.5, warnings=("slow disk",))
    status = with_earlier_attempts(final, before)
    assert (status.phase, status.attempts, status.machine_hours) == (TrialPhase.SUCCEEDED, 2, 1.5)
    assert status.warnings == ("attempt 1: Evicted: drained", "slow disk")


def test_why_a_load_test_ended_early_is_in_the_status() -> None:
    report = TrialReport(trial="t", load=LoadReport(windows=(window(0, 5, look=True),), ended_early="out of reach"))
    status = trial_status(report, Workload(), cost_per_hour=None, accelerators=1, started=0, finished=1, attempts=1)
    assert (status.phase, status.ended_early) == (TrialPhase.SUCCEEDED, "out of reach")
