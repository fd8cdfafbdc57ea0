"""One look at one pool: what is there, what to do about it, and doing it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from haqa_operator.api import Trial
from haqa_operator.api.status import PoolPhase
from haqa_operator.cluster.act.attempt_logs import observe_with_logs
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.deploy import Conclusion
from haqa_operator.cluster.act.trials import PoolContext, TrialWriter
from haqa_operator.cluster.build.pool_manifests import PoolPods
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.decide import (
    Attempt,
    PoolAction,
    PoolObservation,
    Propose,
    Record,
    RemoveJob,
    ShowProgress,
    StartJob,
    TryAgain,
    reconcile_pool,
)
from haqa_operator.cluster.edges.api_server import SECRET
from haqa_operator.cluster.edges.proposals import ProposalRequest
from haqa_operator.cluster.observe.snapshot import profile_of
from haqa_operator.cluster.warm_start import earlier_answer, earlier_runs
from haqa_operator.decision.observations import observations_of
from haqa_operator.search.build import SpaceError
from haqa_operator.search.model_profile import ModelProfileError
from haqa_operator.serving.settings import catalogue
from haqa_operator.tuning.fingerprint import fingerprint
from haqa_operator.tuning.plan import AskStrategy, Conclude, PoolState, new_trial
from haqa_operator.tuning.pool_setup import PoolSetup

_SHORT = 5
"""Digits of the fingerprint in a trial's name."""


class StrategyError(Exception):
    """The strategy itself failed, not its model: the queue asks again, each time later."""


class PoolReconciler:
    """Lives for one look."""

    def __init__(self, dependencies: Dependencies, look: PoolContext, look_again: Callable[[], None]) -> None:
        self._objects = dependencies.objects
        self._installation = dependencies.installation
        self._proposals = dependencies.proposals
        self._look_again = look_again
        self._snapshot = look.snapshot
        self._pool = look.pool
        self._accelerator = look.accelerator
        self._model = look.model
        self._now = look.now
        self._tuning = look.snapshot.tuning.metadata.name
        self._version = catalogue().version
        self._fingerprint = fingerprint(
            look.snapshot.tuning.spec, look.pool, look.accelerator, look.model.digest, self._version
        )
        self._trials = TrialWriter(dependencies, look, self._fingerprint, look_again)

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
        view = self._view(setup, pods, state, hardware)
        if setup.spec.suspend and view.phase is PoolPhase.SEARCHING:
            view = replace(view, phase=PoolPhase.SUSPENDED, message="suspended (spec.suspend)")
        return view

    def _view(self, setup: PoolSetup, pods: PoolPods, state: PoolState, hardware: str) -> PoolView:
        attempts = {trial.name: attempt for trial in state.trials if (attempt := self._attempt(trial)) is not None}
        leaving, lingering = self._leaving(state), self._lingering(state)
        found = PoolObservation(state, attempts, leaving=frozenset(leaving), lingering=lingering)
        left, carried = self._act(setup, pods, found)
        doing = _doing(left, leaving, self._snapshot.silent_nodes)
        view = PoolView(self._pool.name, PoolPhase.SEARCHING, doing, hardware, left.state)
        for action in carried:
            match action:
                case AskStrategy(number) if number == left.state.next_number:
                    view = replace(view, message=_joined(view.message, f"choosing trial {number}"))
                case Conclude(decision, why):
                    conclusion = Conclusion(self._objects, self._snapshot, pods, self._model)
                    view = conclusion.carry_out(view, decision, why)
        return view

    def _act(
        self, setup: PoolSetup, pods: PoolPods, found: PoolObservation
    ) -> tuple[PoolObservation, list[PoolAction]]:
        """Everything that can be done now, with what follows from it: a trial is recorded and the next one started.

        Returns:
            How it then is, and what was done.
        """
        state = self._with_answer(found.state)
        carried: list[PoolAction] = []
        while True:
            asking = self._proposals.waiting(self._question(state.next_number))
            found = replace(found, state=state, asking=asking)
            fresh = [action for action in reconcile_pool(found) if action not in carried]
            if not fresh:
                return found, carried
            for action in fresh:
                state = self._carry_out(action, setup, pods, state)
            carried += fresh

    def _carry_out(self, action: PoolAction, setup: PoolSetup, pods: PoolPods, state: PoolState) -> PoolState:
        match action:
            case AskStrategy(number):
                return self._choose(setup, state, number)
            case Propose(trial):
                return self._create(state, trial)
            case StartJob(trial, number):
                self._trials.start(pods, state.measured_baseline, trial, number)
            case TryAgain(trial, seen, number):
                self._trials.note_attempt(trial, seen, number)
                self._trials.remove_job(trial, number)
            case RemoveJob(trial, number):
                self._trials.remove_job(trial, number)
            case ShowProgress(trial, seen):
                self._trials.show_progress(trial, seen)
            case Record(trial, seen, count):
                status = self._trials.record(trial, seen, count)
                if status is not None:
                    return state.with_trial(trial.model_copy(update={"status": status}))
        return state

    def _create(self, state: PoolState, trial: Trial) -> PoolState:
        self._trials.create(trial)
        return state.with_trial(trial)

    def _choose(self, setup: PoolSetup, state: PoolState, number: int) -> PoolState:
        """The next trial where an earlier run or a quick strategy knows it; else it is asked for."""
        guess = earlier_answer(self._earlier_runs(), state)
        if guess is not None:
            return self._create(state, new_trial(state, number, guess))
        self._ask(setup, state, number)
        return self._with_answer(state)

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
        seen = observe_with_logs(self._objects, self._snapshot.namespace, work, self._now, limits)
        if self._trials.being_read(seen):
            seen = replace(seen, message="measured; waiting for Prometheus")
        return Attempt(work.attempt, seen)

    def _leaving(self, state: PoolState) -> dict[str, str]:
        """Trial -> what is left of its earlier Jobs, of those that have no Job now."""
        patience_s = self._installation.limits.node_lost_s
        found = ((trial.name, self._snapshot.leaving(trial.name, self._now, patience_s)) for trial in state.trials)
        return {trial: left for trial, left in found if left is not None}

    def _lingering(self, state: PoolState) -> dict[str, int]:
        failed = (trial.name for trial in state.finished_trials if not trial.succeeded)
        return {name: attempt for name in failed if (attempt := self._snapshot.lingering(name)) is not None}

    def _question(self, number: int) -> ProposalRequest:
        uid = str(self._snapshot.manifest["metadata"]["uid"])
        return ProposalRequest(uid, self._pool.name, self._fingerprint, number)

    def _with_answer(self, state: PoolState) -> PoolState:
        """The state with the strategy's answer, if one has come; its trial is made at once."""
        answered = self._proposals.answer(self._question(state.next_number))
        if answered is None:
            return state
        if (error := answered.exception()) is not None:
            raise StrategyError(f"the strategy of pool {self._pool.name} failed: {error!r}") from error
        proposal = answered.result()
        if proposal is None:
            return replace(state, exhausted=True)
        return self._create(state, new_trial(state, state.next_number, proposal))

    def _ask(self, setup: PoolSetup, state: PoolState, number: int) -> None:
        running = [trial.configuration for trial in state.trials if not trial.status.phase.finished]
        strategy, _ = setup.strategy(os.environ, lambda *_: None, self._agent_key())
        space = state.space.without(running)
        seen = observations_of(state.finished_trials, setup.spec.objectives, setup.spec.constraints)
        self._proposals.ask(self._question(number), lambda: strategy.propose(space, seen), self._look_again)

    def _agent_key(self) -> str | None:
        """The LLM's key out of its Secret; None where there is none, and the strategy says so."""
        agent = self._snapshot.tuning.spec.search.agent
        if agent is None or agent.secret_ref is None:
            return None
        secret = self._objects.get(SECRET, agent.secret_ref.name, self._snapshot.namespace)
        encoded = (secret or {}).get("data", {}).get(agent.secret_ref.key)
        return base64.b64decode(encoded).decode().strip() if encoded else None


def _joined(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


def _doing(found: PoolObservation, leaving: dict[str, str], silent: frozenset[str]) -> str:
    def what(trial: Trial) -> str:
        if trial.name in found.attempts:
            seen = found.attempts[trial.name].observation
            return f"{seen.message} (the node {seen.node} is not ready)" if seen.node in silent else seen.message
        return f"waiting for {leaving[trial.name]} to be gone" if trial.name in leaving else "starting"

    running = [
        f"trial {trial.number} ({trial.configuration.describe()}): {what(trial)}"
        for trial in found.state.trials
        if not trial.status.phase.finished
    ]
    return "; ".join(running) or ("choosing the next trial" if found.asking else "")
