"""Carries out the plan of one pool, step after step, until it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from haqa_operator.api import Trial, TuningSpec
from haqa_operator.api.tuning import Confirmation as ConfirmationSpec
from haqa_operator.decision.observations import observations_of
from haqa_operator.decision.results import Confirmation, PoolResult
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Stop, Strategy
from haqa_operator.tuning.executor import Executor, TrialProgress
from haqa_operator.tuning.plan import AskStrategy, Conclude, Confirm, Measure, PoolState, agent_tokens, new_trial, plan
from haqa_operator.tuning.pool_defaults import measured_with
from haqa_operator.tuning.record import TuningRecord


class Recorder(Protocol):
    """Where the loop writes what happened, before it goes on. `Journal` is one."""

    def read(self) -> TuningRecord: ...
    def started(self, time: float) -> None: ...
    def proposed(self, trial: Trial) -> None: ...
    def finished(self, trial: Trial) -> None: ...
    def confirmed(self, confirmation: Confirmation) -> None: ...


class Observer(Protocol):
    """Who wants to see a tuning happen: the terminal, a JSON stream."""

    def on_trials(self, pool: str, trials: tuple[Trial, ...]) -> None: ...
    def on_progress(self, pool: str, trial: Trial, progress: TrialProgress) -> None: ...
    def on_note(self, pool: str, note: str) -> None: ...


@dataclass(frozen=True)
class PoolRun:
    """One pool, ready to be tuned.

    Attributes:
        one_engine: As in `PoolState`.
    """

    tuning: str
    pool: str
    spec: TuningSpec
    space: SearchSpace
    hardware: str
    strategy: Strategy
    executor: Executor
    recorder: Recorder
    observer: Observer
    env: Mapping[str, str]
    agent_note: str | None = None
    clock: Callable[[], float] = time.time
    one_engine: bool = False

    def run(self) -> PoolResult:
        """Tunes the pool to its end, from wherever the journal says it is."""
        recorded = self.recorder.read()
        started = recorded.started
        if started is None:
            started = self.clock()
            self.recorder.started(started)
        state = PoolState(
            tuning=self.tuning,
            pool=self.pool,
            spec=self.spec,
            space=self.space,
            trials=recorded.trials,
            confirmations=recorded.confirmations,
            started=started,
            one_engine=self.one_engine,
        )
        while True:
            state = replace(state, now=self.clock())
            self.observer.on_trials(self.pool, state.trials)
            action = plan(state)
            if isinstance(action, Conclude):
                return self._result(state, action)
            state = self._carry_out(state, action)

    def _carry_out(self, state: PoolState, action: Measure | AskStrategy | Confirm) -> PoolState:
        match action:
            case Measure(trial):
                return self._measure(state, trial)
            case AskStrategy(number):
                proposal = self.strategy.propose(
                    state.taught_space,
                    observations_of(state.finished_trials, self.spec.objectives, self.spec.constraints),
                )
                if isinstance(proposal, Stop):
                    return replace(state, ended=proposal.sentence)
                trial = new_trial(state, number, proposal)
                self.recorder.proposed(trial)
                return replace(state, trials=(*state.trials, trial))
            case Confirm(winner, baseline):
                self.observer.on_note(self.pool, f"confirming {winner.configuration.describe()} against the baseline")
                confirmation = self.executor.confirm(winner, baseline, self._progress_of(winner))
                if confirmation is None:
                    self.observer.on_note(
                        self.pool, "no confirmation: winner and baseline cannot be measured alternately here"
                    )
                    without = state.spec.model_copy(update={"confirmation": ConfirmationSpec(rounds=0)})
                    return replace(state, spec=without)
                self.recorder.confirmed(confirmation)
                return replace(state, confirmations=(*state.confirmations, confirmation))

    def _measure(self, state: PoolState, trial: Trial) -> PoolState:
        if trial.number >= len(state.trials):
            self.recorder.proposed(trial)
            state = replace(state, trials=(*state.trials, trial))
        begun = self.clock()
        running = trial.model_copy(update={"status": trial.status.model_copy(update={"started": begun})})
        self.observer.on_trials(self.pool, _with(state.trials, running))
        status = self.executor.execute(running, state.finished_trials, self._progress_of(running))
        finished = running.model_copy(update={"status": status})
        self.recorder.finished(finished)
        return replace(state, trials=_with(state.trials, finished))

    def _progress_of(self, trial: Trial) -> Callable[[TrialProgress], None]:
        return lambda progress: self.observer.on_progress(self.pool, trial, progress)

    def _result(self, state: PoolState, action: Conclude) -> PoolResult:
        ends = [trial.status.finished for trial in state.trials if trial.status.finished is not None]
        confirmation = next((c for c in reversed(state.confirmations) if c.winner == action.decision.winner), None)
        return PoolResult(
            pool=self.pool,
            hardware=self.hardware,
            measured_with=measured_with(self.spec),
            env=dict(self.env),
            stopped=action.why,
            candidates=len(self.space.candidates),
            exclusions=state.taught_space.ruled_out,
            expected={
                trial.name: speed
                for trial in state.counted_trials
                if (speed := self.space.speeds.get(trial.configuration)) is not None
            },
            trials=state.counted_trials,
            decision=action.decision,
            confirmation=confirmation or (state.confirmations[-1] if state.confirmations else None),
            started=state.started,
            finished=max(ends, default=state.now),
            machine_hours=sum(trial.status.machine_hours for trial in state.trials),
            agent_tokens=agent_tokens(state.trials),
            agent_note=self.agent_note,
        )


def _with(trials: tuple[Trial, ...], changed: Trial) -> tuple[Trial, ...]:
    return tuple(changed if trial.number == changed.number else trial for trial in trials)
