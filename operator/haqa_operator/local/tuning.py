"""A tuning on this machine: one pool after another, from the file to the decision."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from haqa_contract import AdapterReport, Configuration, TrialReport, TrialRequest, VariantReport
from haqa_contract.model_facts import ModelFacts
from haqa_operator.agent.credentials import EnvironmentCredentials
from haqa_operator.api import Exchange, NodePool, QuantizationTuning, SpecError, Trial, TuningSpec
from haqa_operator.api.builtin_text import builtin_text_warning
from haqa_operator.decision.results import PoolResult
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.this_machine import detect
from haqa_operator.local.environments import engine_version, preloads, serving_environment
from haqa_operator.local.executor import LocalExecutor, LocalPool, free_port, step_environment
from haqa_operator.local.journal import Journal, JournalBusyError, read_journal
from haqa_operator.local.launchers import launchers
from haqa_operator.local.measured_with import recorded_with
from haqa_operator.local.preflight import local_problems
from haqa_operator.local.processes import Launcher, run_step
from haqa_operator.local.workspace import Workspace
from haqa_operator.search.build import SpaceError
from haqa_operator.search.model_profile import ModelProfile, Published
from haqa_operator.search.space import SearchSpace
from haqa_operator.serving.adapters import LoraSlots
from haqa_operator.serving.images import OldEngineError, check_engine, pool_engine
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.settings import catalogue
from haqa_operator.serving.startup import StartupLimit
from haqa_operator.serving.versions import parse_version
from haqa_operator.tuning.fingerprint import fingerprint
from haqa_operator.tuning.loop import Observer, PoolRun
from haqa_operator.tuning.pool_defaults import measured_with, pool_spec
from haqa_operator.tuning.pool_setup import PoolSetup
from haqa_operator.tuning.preflight import model_unread
from haqa_operator.tuning.requests import Digests, adapter_sources, model_source, variant_sources
from haqa_runner.serve.launching import Spawn

_NOTHING_NAMED = (
    "the search names nothing beside the baseline; name schemes (search.schemes), settings (search.engine, or leave "
    "engineDefaults on) or checkpoints (model.variants)"
)
FETCH_TIMEOUT_S = 6 * 3600.0


@dataclass(frozen=True)
class FetchedModel:
    """The model on this machine.

    Attributes:
        path: Its folder.
        digest: Which model it is: hub commit, or hash of the files.
        facts: What it is made of.
        variants: Its published checkpoints.
        adapters: What is served beside it.
    """

    path: Path
    digest: str
    facts: ModelFacts
    variants: tuple[VariantReport, ...] = ()
    adapters: tuple[AdapterReport, ...] = ()


@dataclass(frozen=True)
class Pool:
    """A pool of the tuning, as this machine stands in for it."""

    spec: NodePool
    accelerator: Accelerator


OnResult = Callable[[PoolResult], None]


class LocalTuning:
    """One tuning file on this machine.

    Raises:
        SpecError: from any method, for what the user has to change.
    """

    def __init__(
        self,
        tuning: QuantizationTuning,
        out: Path,
        observer: Observer,
        *,
        prefork: bool = True,
        only: str | None = None,
        executor: Callable[[LocalPool, Launcher, Spawn], LocalExecutor] | None = None,
    ) -> None:
        self.tuning = tuning
        self.workspace = Workspace.of(out, tuning.metadata.name)
        self._observer = observer
        self._prefork = prefork
        self._executor = executor or LocalExecutor
        self._pools = [pool for pool in tuning.spec.node_pools if only in (None, pool.name)]
        if not self._pools:
            names = ", ".join(pool.name for pool in tuning.spec.node_pools)
            raise SpecError([f"--pool {only}: no such pool; nodePools has {names}"])

    @property
    def spec(self) -> TuningSpec:
        return self.tuning.spec

    def run(self, on_result: OnResult) -> list[PoolResult]:
        """Tunes every pool; `on_result` is called after each."""
        problems = local_problems(self.tuning)
        if problems:
            raise SpecError(problems)
        pools = [self._pool(pool) for pool in self._pools]
        self.workspace.root.mkdir(parents=True, exist_ok=True)
        results: list[PoolResult] = []
        with launchers(self._prefork, self._observer.on_note) as (runner, spawn):
            model = self._fetch(runner)
            for pool in pools:
                history = tuple(result.trials for result in results)
                result = self._tune(pool, model, history, runner, spawn)
                results.append(result)
                on_result(result)
        return results

    def _pool(self, pool: NodePool) -> Pool:
        try:
            env = {**os.environ, **pool.env}
            found = detect(env, pool.hardware, gpus_per_replica=pool.gpus_per_replica)
            if found.is_cpu:
                found = replace(found, preloads=preloads(serving_environment(), env))
            return Pool(pool, found)
        except ValueError as error:
            raise SpecError([f'nodePools "{pool.name}": {error}']) from None

    def _tune(
        self, pool: Pool, model: FetchedModel, history: tuple[tuple[Trial, ...], ...], runner: Launcher, spawn: Spawn
    ) -> PoolResult:
        name = pool.spec.name
        version, engine_note = self._engine(pool.spec)
        adapters = {adapter.name: adapter.digest for adapter in model.adapters}
        variants = tuple(
            Published(one.variant, one.weight_bytes, one.quantization, one.predicted_tokens) for one in model.variants
        )
        profile = ModelProfile(model.facts, variants, LoraSlots.of(model.adapters))

        def print_with(spec: TuningSpec) -> str:
            return fingerprint(spec, pool.spec, pool.accelerator, model.digest, version, adapters)

        def trials_with(spec: TuningSpec) -> tuple[Trial, ...]:
            return read_journal(self.workspace.journal(name, print_with(spec))).trials

        spec = pool_spec(
            self.spec,
            pool.spec,
            pool.accelerator,
            profile,
            version,
            recorded=recorded_with(self.workspace, name),
            has_trials=lambda one: bool(trials_with(one)),
        )
        self._say_what_is_measured(name, spec)
        print_of, measured = print_with(spec), trials_with(spec)
        setup = PoolSetup(spec, pool.spec, pool.accelerator, profile, version, measured, engine_note)
        space = self._space(setup)
        if not space.candidates:
            reasons = sorted({exclusion.reason for exclusion in space.exclusions}) or [_NOTHING_NAMED]
            raise SpecError([f'nodePools "{name}": no configuration can be tried: {"; ".join(reasons)}'])
        folder = self.workspace.run(name, print_of)
        try:
            journal = Journal(self.workspace.journal(name, print_of))
        except JournalBusyError as error:
            raise SpecError([str(error)]) from None
        credentials = EnvironmentCredentials(os.environ)
        strategy, note = setup.strategy(credentials, _Exchanges(folder / "agent").save, history)
        if note:
            self._observer.on_note(name, note)
        place = LocalPool(
            spec=spec,
            pool=pool.spec,
            accelerator=pool.accelerator,
            folder=folder,
            store=self._store(),
            cache=self.workspace.cache,
            profile=profile,
            max_model_len=setup.max_model_len,
            engine_version=parse_version(version),
            adapters=model.adapters,
            seen=Digests(model.digest, {one.label: one.digest for one in model.variants}, adapters),
            expected_rate=setup.expected_rate,
        )
        executor = self._executor(place, runner, spawn)
        run = PoolRun(
            tuning=self.tuning.metadata.name,
            pool=name,
            spec=spec,
            space=space,
            hardware=pool.accelerator.describe(),
            strategy=strategy,
            executor=executor,
            recorder=journal,
            observer=self._observer,
            env=pool.spec.env,
            agent_note=note,
            one_engine=not executor.side_by_side,
        )
        try:
            return run.run()
        finally:
            journal.close()

    def _say_what_is_measured(self, pool: str, spec: TuningSpec) -> None:
        if spec is not self.spec:
            self._observer.on_note(pool, f"measured with {measured_with(spec).describe()}")
        if (warning := builtin_text_warning(spec)) is not None:
            self._observer.on_note(pool, warning)

    def _engine(self, pool: NodePool) -> tuple[str, str | None]:
        """The version that is installed here, and what somebody should know about it.

        An image is not used on one machine, but the Deployment is written for it. The pool may say what a build of
        somebody's own is.
        """
        version = engine_version(serving_environment()) or catalogue().version
        if pool.engine_version and "dev" in version:
            version = pool.engine_version
        try:
            note = check_engine(parse_version(version), "the installed engine")
            there = pool_engine(pool).text if pool.image or pool.engine_version else version
        except OldEngineError as error:
            raise SpecError([str(error)]) from None
        if parse_version(there) == parse_version(version):
            return version, note
        return version, (
            f"measured with vLLM {version}, which is installed here, and not with the pool's {there}: try the "
            "Deployment's arguments with that one before you rely on them"
        )

    def _space(self, setup: PoolSetup) -> SearchSpace:
        try:
            space = setup.space()
        except SpaceError as error:
            raise SpecError([f"spec.search: {error}"]) from None
        loaded, timeout = setup.profile.loaded_bytes(space.baseline), setup.spec.budget.trial_timeout
        cramped = StartupLimit().cramped(loaded, timeout)
        for note in filter(None, (*space.notes, space.baseline_problem, setup.note, cramped)):
            self._observer.on_note(setup.pool.name, note)
        return space

    def _store(self) -> str:
        artifacts = self.spec.artifacts
        if artifacts is None:
            return os.fspath(self.workspace.store)
        return artifacts.s3 or os.fspath(Path(artifacts.path or self.workspace.store).absolute())

    def _fetch(self, runner: Launcher) -> FetchedModel:
        """The model, through the runner's own loading code, before any trial is paid for."""
        folder = self.workspace.fetch
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        launch = engine_launch(
            Configuration(),
            Accelerator(Vendor.CPU, "this machine"),
            model_path="/model",
            served_model_name=self.tuning.metadata.name,
            port=free_port(),
        )
        request = TrialRequest(
            tuning=self.tuning.metadata.name,
            trial="fetch",
            pool="",
            model=model_source(self.spec.model),
            variants=variant_sources(self.spec.model),
            adapters=adapter_sources(self.spec.model),
            configuration=Configuration(),
            engine=launch,
            store=self._store(),
            directory=os.fspath(folder),
            cache=os.fspath(self.workspace.cache),
        )
        file = folder / "request.json"
        file.write_text(request.model_dump_json(indent=1))
        argv = ["haqa_runner", "quantize", "--request", os.fspath(file)]
        run_step(
            runner,
            argv,
            step_environment(),
            folder,
            "fetch.log",
            FETCH_TIMEOUT_S,
            lambda progress: self._observer.on_note("model", progress.message),
        )
        report = TrialReport.model_validate_json((folder / "quantize.json").read_bytes())
        if report.failure is not None or report.artifact is None or report.artifact.facts is None:
            raise SpecError([model_unread(self.spec.model.uri, report.failure)])
        facts = report.artifact.facts
        for note in facts.notes:
            self._observer.on_note("model", note)
        artifact = report.artifact
        return FetchedModel(Path(artifact.path), artifact.model_digest, facts, artifact.variants, artifact.adapters)


@dataclass
class _Exchanges:
    """Keeps every exchange with the LLM in full, one file each."""

    folder: Path

    def save(self, prompt: str, reply: str, exchange: Exchange) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self.folder.glob("*.json")))
        body = {"prompt": prompt, "reply": reply, "exchange": exchange.model_dump(mode="json", by_alias=True)}
        (self.folder / f"{number:04d}-{exchange.prompt_hash[:12]}.json").write_text(json.dumps(body, indent=1))
