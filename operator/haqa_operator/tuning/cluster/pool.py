"""One look at one pool: what is there, what to do about it, and doing it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from haqa_operator.api import NodePool, Trial, TrialPhase, TrialStatus
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.status import ModelFacts, PoolPhase
from haqa_operator.decision.observe import observe as observations_of
from haqa_operator.executors.pod_outcome import TrialObservation
from haqa_operator.executors.results import attempt_noted, trial_status, with_earlier_attempts
from haqa_operator.executors.trial_job import POOL_LABEL, TRIAL_LABEL, TUNING_LABEL, job_name, label
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.metrics.prometheus_series import Pod
from haqa_operator.search.build import SpaceError
from haqa_operator.search.model_profile import ModelProfileError
from haqa_operator.serving.settings import catalogue
from haqa_operator.tuning.cluster import looking, telemetry
from haqa_operator.tuning.cluster.asking import Question
from haqa_operator.tuning.cluster.concluding import Conclusion
from haqa_operator.tuning.cluster.log_context import about
from haqa_operator.tuning.cluster.means import Means
from haqa_operator.tuning.cluster.news import News
from haqa_operator.tuning.cluster.objects import JOB, SECRET, TRIAL, Manifest
from haqa_operator.tuning.cluster.pods import PoolPods
from haqa_operator.tuning.cluster.snapshot import TuningSnapshot, owner_reference, profile_of
from haqa_operator.tuning.cluster.statuses import PoolView
from haqa_operator.tuning.fingerprint import fingerprint
from haqa_operator.tuning.plan import PoolState, new_trial
from haqa_operator.tuning.pools import PoolSetup
from haqa_operator.tuning.reconcile import (
    AskStrategy,
    Attempt,
    Conclude,
    PoolAction,
    PoolSnapshot,
    Propose,
    Record,
    RemoveJob,
    ShowProgress,
    StartJob,
    TryAgain,
    reconcile_pool,
)
from haqa_operator.tuning.warm_start import earlier_answer, earlier_runs
from haqa_runner.contract import TrialReport

_SHORT = 5
"""Digits of the fingerprint in a trial's name."""


class StrategyError(Exception):
    """The strategy itself failed, not its model: the queue asks again, each time later."""


@dataclass(frozen=True)
class PoolLook:
    """What one look at a pool has found."""

    snapshot: TuningSnapshot
    pool: NodePool
    accelerator: Accelerator
    model: ModelFacts
    now: float


class PoolReconciler:
    """Lives for one look."""

    def __init__(self, means: Means, look: PoolLook, look_again: Callable[[], None]) -> None:
        self._objects = means.objects
        self._installation = means.installation
        self._asking = means.asking
        self._news = means.news
        self._readings = means.readings
        self._look_again = look_again
        self._snapshot = look.snapshot
        self._pool = look.pool
        self._accelerator = look.accelerator
        self._model = look.model
        self._now = look.now
        self._created: dict[str, Manifest] = {}
        self._tuning = look.snapshot.tuning.metadata.name
        self._version = catalogue().version
        self._fingerprint = fingerprint(
            look.snapshot.tuning.spec, look.pool, look.accelerator, look.model.digest, self._version
        )

    def carry_on(self) -> PoolView:
        """Does what is to be done and says how the pool then is."""
        hardware = self._accelerator.describe()
        try:
            setup = PoolSetup(
                self._snapshot.tuning.spec, self._pool, self._accelerator, profile_of(self._model), self._version
            )
            space = setup.space()
        except (SpaceError, ModelProfileError) as error:
            return PoolView(self._pool.name, PoolPhase.FAILED, hardware=hardware, problem=str(error))
        trials = self._snapshot.trials_of(self._pool, self._fingerprint)
        state = PoolState(
            tuning=self._tuning,
            pool=self._pool.name,
            spec=setup.spec,
            space=space,
            trials=trials,
            started=self._started(),
            now=self._now,
            run=self._fingerprint[:_SHORT],
        )
        pods = PoolPods(
            self._snapshot.namespace,
            self._tuning,
            setup.spec,
            self._pool,
            self._accelerator,
            self._installation,
            setup.max_model_len,
        )
        view = self._act(setup, pods, self._with_answer(state), hardware)
        if setup.spec.suspend and view.phase is PoolPhase.SEARCHING:
            view = replace(view, phase=PoolPhase.SUSPENDED, message="suspended (spec.suspend)")
        return view

    def _act(self, setup: PoolSetup, pods: PoolPods, state: PoolState, hardware: str) -> PoolView:
        attempts = {trial.name: attempt for trial in state.trials if (attempt := self._attempt(trial)) is not None}
        leaving = self._leaving(state)
        asking = self._asking.waiting(self._question(state.next_number))
        doing = _doing(state, attempts, leaving, asking, self._snapshot.silent_nodes)
        view = PoolView(self._pool.name, PoolPhase.SEARCHING, doing, hardware, state)
        for action in reconcile_pool(PoolSnapshot(state, attempts, asking, frozenset(leaving))):
            match action:
                case AskStrategy(number):
                    self._choose(setup, state, number)
                    view = replace(view, message=_joined(view.message, f"choosing trial {number}"))
                case Conclude(decision, why):
                    conclusion = Conclusion(self._objects, self._snapshot, pods, self._model)
                    view = conclusion.carry_out(view, decision, why)
                case _:
                    self._of_trial(action, pods, state)
        return view

    def _of_trial(self, action: PoolAction, pods: PoolPods, state: PoolState) -> None:
        match action:
            case Propose(trial):
                self._create(trial)
            case StartJob(trial, number):
                self._start(pods, state, trial, number)
            case TryAgain(trial, seen, number):
                self._write(trial, attempt_noted(trial.status, seen, number, self._accelerator.count))
                self._remove_job(trial, number)
            case RemoveJob(trial, number):
                self._remove_job(trial, number)
            case ShowProgress(trial, seen):
                self._write(trial, trial.status.model_copy(update=_begun(seen)))
            case Record(trial, seen, count):
                self._record(trial, seen, count)

    def _choose(self, setup: PoolSetup, state: PoolState, number: int) -> None:
        """The next trial at once where an earlier run knows it, or the question for it."""
        guess = earlier_answer(self._earlier_runs(), state)
        if guess is not None:
            self._create(new_trial(state, number, guess))
        else:
            self._ask(setup, state, number)

    def _earlier_runs(self) -> tuple[tuple[Trial, ...], ...]:
        return earlier_runs(self._snapshot.trials, self._pool.name, self._fingerprint)

    def _started(self) -> float | None:
        created = [
            datetime.fromisoformat(str(stamp)).timestamp()
            for trial in self._snapshot.trials
            if trial.spec.pool == self._pool.name
            and trial.spec.fingerprint == self._fingerprint
            and (stamp := (trial.metadata.model_extra or {}).get("creationTimestamp"))
        ]
        return min(created, default=None)

    def _attempt(self, trial: Trial) -> Attempt | None:
        if trial.status.phase.finished:
            return None
        work = self._snapshot.work_of(trial.name)
        if work is None:
            return None
        limits = self._installation.limits
        seen = looking.observe(self._objects, self._snapshot.namespace, work, self._now, limits)
        if self._readings is not None and seen.pod is not None and self._readings.under_way(self._scraped(seen.pod)):
            seen = replace(seen, message="measured; waiting for Prometheus")
        return Attempt(work.attempt, seen)

    def _leaving(self, state: PoolState) -> dict[str, str]:
        """Trial -> what is left of its earlier Jobs, of those that have no Job now."""
        patience_s = self._installation.limits.node_lost_s
        found = ((trial.name, self._snapshot.leaving(trial.name, self._now, patience_s)) for trial in state.trials)
        return {trial: left for trial, left in found if left is not None}

    def _question(self, number: int) -> Question:
        uid = str(self._snapshot.manifest["metadata"]["uid"])
        return Question(uid, self._pool.name, self._fingerprint, number)

    def _with_answer(self, state: PoolState) -> PoolState:
        """The state with the strategy's answer, if one has come; its trial is made at once."""
        answered = self._asking.answer(self._question(state.next_number))
        if answered is None:
            return state
        if (error := answered.exception()) is not None:
            raise StrategyError(f"the strategy of pool {self._pool.name} failed: {error!r}") from error
        proposal = answered.result()
        if proposal is None:
            return replace(state, exhausted=True)
        trial = new_trial(state, state.next_number, proposal)
        self._create(trial)
        return replace(state, trials=(*state.trials, trial))

    def _ask(self, setup: PoolSetup, state: PoolState, number: int) -> None:
        running = [trial.configuration for trial in state.trials if not trial.status.phase.finished]
        strategy, _ = setup.strategy(os.environ, lambda *_: None, self._agent_key())
        space = state.space.without(running)
        seen = observations_of(state.finished_trials, setup.spec.objectives, setup.spec.constraints)
        self._asking.ask(self._question(number), lambda: strategy.propose(space, seen), self._look_again)

    def _agent_key(self) -> str | None:
        """The LLM's key out of its Secret; None where there is none, and the strategy says so."""
        agent = self._snapshot.tuning.spec.search.agent
        if agent is None or agent.secret_ref is None:
            return None
        secret = self._objects.get(SECRET, agent.secret_ref.name, self._snapshot.namespace)
        encoded = (secret or {}).get("data", {}).get(agent.secret_ref.key)
        return base64.b64decode(encoded).decode().strip() if encoded else None

    def _create(self, trial: Trial) -> None:
        resource = QuantizationTrial.of(trial, self._snapshot.namespace, self._fingerprint)
        manifest = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
        manifest["metadata"] |= {
            "labels": {
                TUNING_LABEL: label(self._tuning),
                POOL_LABEL: label(self._pool.name),
                TRIAL_LABEL: label(trial.name),
            },
            "ownerReferences": [self._snapshot.owner()],
        }
        # Created and not applied: whoever comes second changes nothing, its proposal is lost.
        created = self._objects.create(manifest)
        if created is not None:
            self._created[trial.name] = created
            telemetry.proposed(trial.proposal)

    def _start(self, pods: PoolPods, state: PoolState, trial: Trial, attempt: int) -> None:
        resource = self._resource_of(trial)
        if resource is None:
            # Somebody else has made it since this look began; the next look knows.
            return
        again = f" (attempt {attempt})" if attempt > 1 else ""
        by = trial.proposal.proposer.value
        told = f"trial {trial.number} on pool {trial.pool}: {trial.configuration.describe()}, chosen by {by}{again}"
        self._tell(resource, News("TrialStarted", told))
        self._objects.apply(pods.trial_job(trial, _baseline(state), attempt, owner_reference(resource)))

    def _remove_job(self, trial: Trial, attempt: int) -> None:
        self._objects.delete(JOB, job_name(trial.name, attempt), self._snapshot.namespace)

    def _record(self, trial: Trial, seen: TrialObservation, attempts: int) -> None:
        report = seen.report or TrialReport(trial=trial.name)
        finished = seen.finished or self._now
        read, queries, note = self._from_prometheus(report, seen, finished)
        if read is None:
            return
        status = trial_status(
            read,
            self._snapshot.tuning.spec.workload,
            cost_per_hour=self._pool.cost_per_hour,
            accelerators=self._accelerator.count,
            started=seen.scheduled or seen.started or finished,
            finished=finished,
            attempts=attempts,
        )
        if note:
            status = status.model_copy(update={"warnings": (*status.warnings, note)})
        status = with_earlier_attempts(status, trial.status)
        if resource := self._resource_of(trial):
            self._tell(resource, _ended(trial, status))
        self._write(trial, status, queries)
        telemetry.trial_ended(status)

    def _resource_of(self, trial: Trial) -> Mapping[str, Any] | None:
        return self._created.get(trial.name) or self._snapshot.resource_of(trial.name)

    def _tell(self, trial: Mapping[str, Any], news: News) -> None:
        """On the trial, and on the tuning, where people look first."""
        with about(pool=self._pool.name, trial=trial["metadata"]["name"]):
            self._news.tell(self._snapshot.manifest, news)
            self._news.tell(trial, news, quiet=True)

    def _from_prometheus(
        self, report: TrialReport, seen: TrialObservation, finished: float
    ) -> tuple[TrialReport | None, tuple[str, ...], str | None]:
        """The report with Prometheus' figures, the queries, and a note; no report while Prometheus is being read."""
        if self._readings is None or report.load is None or seen.pod is None:
            return report, (), None
        reading = self._readings.read(self._scraped(seen.pod), report, finished, self._look_again)
        if reading is None:
            return None, (), None
        return reading.report, reading.queries, reading.note

    def _scraped(self, pod: str) -> Pod:
        return Pod(self._snapshot.namespace, pod, model=self._tuning)

    def _write(self, trial: Trial, status: TrialStatus, queries: tuple[str, ...] = ()) -> None:
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        throughput = status.metrics.get("throughput")
        if throughput is not None:
            body["throughput"] = f"{throughput.value:.4g}"
        if queries:
            body["queries"] = dict(zip(("windows", *map(str, range(1, len(queries)))), queries, strict=True))
        metadata = {"name": trial.name, "namespace": self._snapshot.namespace}
        own = {"apiVersion": TRIAL.api_version, "kind": TRIAL.kind, "metadata": metadata, "status": body}
        self._objects.apply_status(own)


def _baseline(state: PoolState) -> Trial | None:
    return next((trial for trial in state.finished_trials if trial.is_baseline and trial.succeeded), None)


def _joined(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


def _ended(trial: Trial, status: TrialStatus) -> News:
    what = f"trial {trial.number} on pool {trial.pool} ({trial.configuration.describe()})"
    if (failure := status.failure) is not None:
        return News("TrialFailed", f"{what}: {failure.reason.value}: {failure.message}", warning=True)
    throughput = status.metrics.get("throughput")
    measured = f"{throughput.value:.4g} output tokens/s" if throughput else "measured"
    return News("TrialSucceeded", f"{what}: {measured}")


def _begun(seen: TrialObservation) -> dict[str, object]:
    return {"phase": TrialPhase(seen.phase), "started": seen.scheduled or seen.started}


def _doing(
    state: PoolState, attempts: dict[str, Attempt], leaving: dict[str, str], asking: bool, silent: frozenset[str]
) -> str:
    def what(trial: Trial) -> str:
        if trial.name in attempts:
            seen = attempts[trial.name].observation
            return f"{seen.message} (the node {seen.node} is not ready)" if seen.node in silent else seen.message
        return f"waiting for {leaving[trial.name]} to be gone" if trial.name in leaving else "starting"

    running = [
        f"trial {trial.number} ({trial.configuration.describe()}): {what(trial)}"
        for trial in state.trials
        if not trial.status.phase.finished
    ]
    return "; ".join(running) or ("choosing the next trial" if asking else "")
