"""Reconciles one pool: what is there, what to do about it, and doing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from haqa_operator.api import Trial
from haqa_operator.api.status import PoolPhase
from haqa_operator.cluster.act.answering import conclude
from haqa_operator.cluster.act.answers import AnswerKeeper
from haqa_operator.cluster.act.artifacts import ArtifactMaker
from haqa_operator.cluster.act.attempt_logs import observe_with_logs
from haqa_operator.cluster.act.context import PoolContext
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.ownership import NameTaken
from haqa_operator.cluster.act.proposing import ProposalSource
from haqa_operator.cluster.act.trials import TrialWriter
from haqa_operator.cluster.build.pool_manifests import PoolManifests
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.decide import (
    Attempt,
    MakeArtifact,
    PoolAction,
    PoolObservation,
    Propose,
    Record,
    RemoveJob,
    ShowProgress,
    StartJob,
    TryAgain,
    pool_actions,
)
from haqa_operator.cluster.edges.api_server import ApiRefused
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.snapshot import Work
from haqa_operator.search.build import SpaceError
from haqa_operator.search.strategies import Stop
from haqa_operator.serving.pod import device_resource
from haqa_operator.tuning.plan import AskStrategy, Conclude, PoolState, new_trial
from haqa_operator.tuning.pool_setup import PoolSetup
from haqa_operator.tuning.prices import at_price

_SHORT = 5
"""Digits of the fingerprint in a trial's name."""


class PoolReconciler:
    """Lives for one reconciliation."""

    def __init__(
        self, dependencies: Dependencies, context: PoolContext, keeper: AnswerKeeper, requeue: Callable[[], None]
    ) -> None:
        self._api = dependencies.api
        self._installation = dependencies.installation
        self._context = context
        self._keeper = keeper
        self._snapshot = context.snapshot
        self._pool = context.pool
        self._accelerator = context.accelerator
        self._tuning = context.snapshot.tuning.metadata.name
        self._fingerprint = context.fingerprint
        self._artifacts = ArtifactMaker(dependencies, context, self._observe)
        self._trials = TrialWriter(dependencies, context, self._fingerprint, requeue)
        self._proposals = ProposalSource(
            self._api, dependencies.proposals, context, self._fingerprint, requeue, dependencies.open_model
        )

    def reconcile(self) -> PoolView:
        """Does what is to be done and says how the pool then is.

        A write that is refused, or whose name is taken, ends what can be done for now; the view says so.
        """
        hardware = self._accelerator.describe()
        try:
            setup = PoolSetup(
                self._context.spec,
                self._pool,
                self._accelerator,
                self._context.profile,
                self._context.engine_version,
                at_price(self._snapshot.trials_of(self._pool, self._fingerprint), self._pool.cost_per_hour),
                self._context.engine.note,
            )
            state = self._state(setup)
        except SpaceError as error:
            return PoolView(self._pool.name, PoolPhase.FAILED, hardware=hardware, problem=str(error))
        timeout = setup.spec.budget.trial_timeout
        cramped = self._installation.startup.cramped(setup.profile.loaded_bytes(state.space.baseline), timeout)
        checked = self._context.check.note if self._context.check else None
        notes = tuple(note for note in (checked, setup.note, self._accelerator.caveat, cramped) if note)
        view = self._view(setup, state, hardware, notes)
        if view.answer is None:
            view = replace(view, message=_joined(view.message, *notes))
        if setup.spec.suspend and view.phase is PoolPhase.SEARCHING:
            running = any(not trial.status.phase.finished for trial in state.trials)
            view = replace(view, phase=PoolPhase.SUSPENDED, message="suspended (spec.suspend)", idle=not running)
        return view

    def _state(self, setup: PoolSetup) -> PoolState:
        return PoolState(
            tuning=self._tuning,
            pool=self._pool.name,
            spec=setup.spec,
            space=setup.space(),
            trials=setup.measured,
            started=self._started(),
            now=self._context.now,
            run=self._fingerprint[:_SHORT],
            one_engine=True,
            room=self._room(),
        )

    def _room(self) -> dict[str, int]:
        """Replicas by node, where they do not disturb each other more than trials in parallel do.

        Not of CPUs, whose cores and memory they would share, of parts of a device that others use, or of devices that
        are claimed, which no node announces.
        """
        accelerator, resource = self._accelerator, device_resource(self._accelerator)
        if resource is None or accelerator.sharing is not None or self._pool.resource_claim_template is not None:
            return {}
        nodes = self._snapshot.nodes[self._pool.name]
        return {node.name: (node.offers(resource) or 0) // accelerator.count for node in nodes}

    def _manifests(self, setup: PoolSetup, state: PoolState) -> PoolManifests:
        # A trial that was recorded a moment ago says how the rest of the run is measured.
        setup = replace(setup, measured=state.trials)
        return PoolManifests(
            self._snapshot.namespace,
            self._tuning,
            setup.spec,
            self._pool,
            self._accelerator,
            self._installation,
            setup.max_model_len,
            self._context.model,
            setup.expected_rate,
        )

    def _view(self, setup: PoolSetup, state: PoolState, hardware: str, notes: Sequence[str]) -> PoolView:
        attempts = {trial.name: attempt for trial in state.trials if (attempt := self._attempt(trial)) is not None}
        leaving, lingering = self._leaving(state), self._lingering(state)
        progress = _Progress(PoolObservation(state, attempts, leaving=frozenset(leaving), lingering=lingering))
        confirming = any(trial.is_confirmation and not trial.status.phase.finished for trial in state.trials)
        phase = PoolPhase.CONFIRMING if confirming else PoolPhase.SEARCHING
        view = PoolView(self._pool.name, phase, "", hardware, state)
        try:
            self._act(setup, progress)
            left = progress.observed
            view = replace(view, message=_doing(left, leaving, self._snapshot.silent_nodes), state=left.state)
            for action in progress.done:
                match action:
                    case AskStrategy(number) if number == left.state.next_number:
                        view = replace(view, message=_joined(view.message, f"choosing trial {number}"))
                    case Conclude(decision, why):
                        manifests = self._manifests(setup, left.state)
                        return conclude(self._keeper, self._context, manifests, view, decision, why, notes)
            view = replace(view, deployment=self._keeper.go_on_serving(view.name))
        except ApiRefused as error:
            return replace(view, state=progress.state, problem=f"the API server refuses: {error}", refused=True)
        except NameTaken as error:
            return replace(view, state=progress.state, problem=str(error), refused=True)
        return view

    def _act(self, setup: PoolSetup, progress: _Progress) -> None:
        """Everything that can be done now, with what follows from it: a trial is recorded and the next one started."""
        progress.state = self._with_answer(progress.state)
        while True:
            progress.observed = replace(
                progress.observed,
                asking=self._proposals.pending(progress.state.next_number),
                makings=self._artifacts.makings(progress.state),
            )
            fresh = [action for action in pool_actions(progress.observed) if action not in progress.done]
            if not fresh:
                return
            for action in fresh:
                progress.state = self._carry_out(action, setup, progress)
            progress.done += fresh

    def _carry_out(self, action: PoolAction, setup: PoolSetup, progress: _Progress) -> PoolState:
        state = progress.state
        match action:
            case AskStrategy(number):
                return self._choose(setup, state, number)
            case Propose(trial):
                return self._create(state, trial)
            case MakeArtifact(trial, number):
                self._artifacts.start(self._manifests(setup, state), trial, number)
            case StartJob(trial, number, artifact):
                self._trials.start(self._manifests(setup, state), state.finished_trials, trial, number, artifact)
            case TryAgain(trial, seen, number):
                self._trials.note_attempt(trial, seen, number)
                self._trials.remove_job(trial, number)
            case RemoveJob(trial, number):
                self._trials.remove_job(trial, number)
            case ShowProgress(trial, seen):
                self._trials.show_progress(trial, seen)
            case Record(trial, seen, count):
                status = self._trials.record(trial, seen, count, progress.observed.makings.get(trial.name))
                if status is not None:
                    return state.with_trial(trial.model_copy(update={"status": status}))
        return state

    def _create(self, state: PoolState, trial: Trial) -> PoolState:
        self._trials.create(trial)
        return state.with_trial(trial)

    def _choose(self, setup: PoolSetup, state: PoolState, number: int) -> PoolState:
        """The next trial where an earlier run or a quick strategy knows it; else it is asked for."""
        guess = self._proposals.earlier_answer(state)
        if guess is not None:
            return self._create(state, new_trial(state, number, guess))
        if self._context.check is not None:
            return replace(state, ended="the answer cannot be served by what is there now, and nothing else is tried")
        self._proposals.request(setup, state, number)
        return self._with_answer(state)

    def _with_answer(self, state: PoolState) -> PoolState:
        """The state with the strategy's answer, if one has come; its trial is made at once, unless suspended.

        What another trial has ruled out in the meantime is not tried: the strategy is asked again.
        """
        number = state.next_number
        answer = None if state.spec.suspend else self._proposals.answer(number)
        if answer is None:
            return state
        if isinstance(answer, Stop):
            state = replace(state, ended=answer.sentence)
        elif answer.configuration not in state.taught_space.closed:
            state = self._create(state, new_trial(state, number, answer))
        self._proposals.used(number)
        return state

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
        seen = self._observe(work)
        if self._trials.being_read(seen):
            seen = replace(seen, message="measured; waiting for Prometheus")
        return Attempt(work.attempt, seen)

    def _observe(self, work: Work) -> TrialObservation:
        limits = self._installation.limits
        return observe_with_logs(self._api, self._snapshot.namespace, work, self._context.now, limits)

    def _leaving(self, state: PoolState) -> dict[str, str]:
        """Trial -> what is left of its earlier Jobs, of those that have no Job now."""
        patience_s, now = self._installation.limits.node_lost_s, self._context.now
        found = ((trial.name, self._snapshot.leaving(trial.name, now, patience_s)) for trial in state.trials)
        return {trial: left for trial, left in found if left is not None}

    def _lingering(self, state: PoolState) -> dict[str, int]:
        failed = (trial.name for trial in state.finished_trials if not trial.succeeded)
        return {name: attempt for name in failed if (attempt := self._snapshot.lingering(name)) is not None}


class _Progress:
    """How far one reconciliation of a pool has come, also where it ends half-way."""

    def __init__(self, observed: PoolObservation) -> None:
        self.observed = observed
        self.done: list[PoolAction] = []

    @property
    def state(self) -> PoolState:
        return self.observed.state

    @state.setter
    def state(self, state: PoolState) -> None:
        self.observed = replace(self.observed, state=state)


def _joined(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


def _doing(found: PoolObservation, leaving: dict[str, str], silent: frozenset[str]) -> str:
    def what(trial: Trial) -> str:
        if trial.name in found.attempts:
            seen = found.attempts[trial.name].observation
            return f"{seen.message} (the node {seen.node} is not ready)" if seen.node in silent else seen.message
        if trial.name in leaving:
            return f"waiting for {leaving[trial.name]} to be gone"
        making = found.makings.get(trial.name)
        if making is None or making.digest is not None:
            return "starting"
        return making.seen.message if making.seen else "quantizing"

    running = [
        f"trial {trial.number} ({trial.configuration.describe()}): {what(trial)}"
        for trial in found.state.trials
        if not trial.status.phase.finished
    ]
    return "; ".join(running) or ("choosing the next trial" if found.asking else "")
