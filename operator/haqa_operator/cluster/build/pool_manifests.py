"""A trial and a winner of a cluster's pool, as the pods they become. Pure: both from the same engine pod."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from haqa_contract import AdapterSource, Configuration, EngineLaunch, ModelSource
from haqa_operator.api import NodePool, Trial, TuningSpec
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import FetchedAdapter, FetchedModel
from haqa_operator.cluster.build.artifact_job import build_artifact_job, build_reference_job
from haqa_operator.cluster.build.measure_resources import measure_resources
from haqa_operator.cluster.build.records import build_verification
from haqa_operator.cluster.build.trial_job import (
    TrialPod,
    build_model_job,
    build_trial_job,
    fetch_request,
    hub_secrets,
    spec_in_pods,
    trial_places,
    trial_volume,
)
from haqa_operator.cluster.installation import Installation
from haqa_operator.cluster.names import ARTIFACT_TRIAL
from haqa_operator.cluster.observe.snapshot import profile_of
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.adapters import ServedAdapters
from haqa_operator.serving.deployment import (
    Provenance,
    build_deployment,
    build_disruption_budget,
    build_service,
    deployment_name,
)
from haqa_operator.serving.images import EngineVersion, pool_engine, pool_image
from haqa_operator.serving.kserve import as_inference_service
from haqa_operator.serving.launch import ENGINE_PORT, engine_launch
from haqa_operator.serving.model_length import MaxModelLen
from haqa_operator.serving.pod import EnginePod
from haqa_operator.serving.versions import parse_version
from haqa_operator.serving.volumes import (
    ADAPTERS_MOUNT,
    CLAIM_MOUNT,
    MODEL_MOUNT,
    STORE_MOUNT,
    TRIAL_MOUNT,
    AdaptersVolume,
    Fetching,
    LinkedVolume,
    ModelVolume,
    artifact_volume,
    served_volume,
)
from haqa_operator.tuning.requests import (
    Digests,
    TrialPlaces,
    adapter_sources,
    model_source,
    pinned,
    trial_request,
    variant_sources,
)

HOSTNAME_LABEL = "kubernetes.io/hostname"


class CannotDeploy(Exception):
    """The winner cannot be deployed; the message says why."""


@dataclass(frozen=True)
class PoolManifests:
    """Builds the Jobs, the Deployment and the Service of one pool of one tuning.

    Attributes:
        max_model_len: What the engine gets; None until the model is known.
        model: What was found out about it; None until then.
        expected_rate: Output tokens/s that an engine may reach, by its configuration and the trials so far.
    """

    namespace: str
    tuning: str
    spec: TuningSpec
    pool: NodePool
    accelerator: Accelerator
    installation: Installation
    max_model_len: MaxModelLen = None
    model: FetchedModel | None = None
    expected_rate: Callable[[Configuration, Sequence[Trial]], float | None] = lambda *_: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", spec_in_pods(self.spec))

    def model_job(self, attempt: int, owner: Manifest) -> Manifest:
        """The Job that inspects the model. Raises ValueError: the tuning names no store that a pod can reach."""
        launch = EngineLaunch(args=(), served_model_name=self.tuning, port=ENGINE_PORT)
        engine = self._engine(launch, trial_volume(self.spec.artifacts, self.spec.model.claim))
        return build_model_job(self._pod(engine, owner, attempt))

    def artifact_job(self, trial: Trial, artifact: str, attempt: int, owner: Manifest) -> Manifest:
        """The Job that makes what a trial serves. Raises ValueError as `trial_job`."""
        launch = self._launch(trial)
        request = trial_request(
            self.spec, trial, (), launch, self._places(), seen=self._seen, accelerator=self.accelerator
        )
        # Adapters are brought by the trials; here nothing is served.
        request = request.model_copy(update={"trial": ARTIFACT_TRIAL, "adapters": (), "gates": (), "load_gates": ()})
        engine = self._engine(launch, trial_volume(self.spec.artifacts, self.spec.model.claim))
        pod = replace(self._pod(engine, owner, attempt), request=request)
        return build_artifact_job(pod, artifact, trial.name, profile_of(self.model).facts if self.model else None)

    def trial_job(
        self,
        trial: Trial,
        earlier: Sequence[Trial],
        attempt: int,
        owner: Manifest,
        artifact: str | None = None,
        hostname: str | None = None,
    ) -> Manifest:
        """The Job of a trial.

        Args:
            artifact: Content address of what it serves, where that has been made.
            hostname: Of the node that it has to run on; None: any of the pool's.

        Raises:
            ValueError: the tuning names no store that a pod can reach.
        """
        launch = self._launch(trial)
        places = self._places()
        expected = self.expected_rate(trial.configuration, earlier)
        request = trial_request(
            self.spec,
            trial,
            earlier,
            launch,
            places,
            self.pool.cost_per_hour,
            self._seen,
            expected,
            accelerator=self.accelerator,
        ).model_copy(
            update={
                "artifact": artifact,
                "report": f"{places.reports}/{trial.name}/{attempt}.json",
                "scrape_grace_s": 2 * self.installation.scrape_interval_s if self.installation.prometheus else 0.0,
            }
        )
        if trial.is_reference:
            # Adapters are served, and nothing is here.
            request = request.model_copy(update={"adapters": (), "adapters_directory": None})
            engine = self._engine(launch, trial_volume(self.spec.artifacts, self.spec.model.claim))
            pod = replace(self._pod(engine, owner, attempt), request=request)
            return build_reference_job(pod, profile_of(self.model).facts if self.model else None)
        adapters = AdaptersVolume() if self.adapters else None
        engine = self._engine(launch, trial_volume(self.spec.artifacts, self.spec.model.claim), adapters)
        if hostname is not None:
            engine = replace(engine, node_selector={**engine.node_selector, HOSTNAME_LABEL: hostname})
        measuring = measure_resources(self.accelerator, expected)
        return build_trial_job(replace(self._pod(engine, owner, attempt), request=request, measure_resources=measuring))

    def winner(self, trial: Trial) -> tuple[Manifest, ...]:
        """What serves a finished trial, with the command that was measured: Deployment, Service and
        PodDisruptionBudget, or KServe's InferenceService.

        Raises:
            CannotDeploy: it is not known what it served.
        """
        engine = self._engine(self._launch(trial), self._served(trial), self._fetched_adapters)
        provenance = Provenance.of(trial)
        output = self.spec.output.deployment
        name = output.name or deployment_name(self.tuning, self.pool.name)
        deployment = build_deployment(engine, provenance, name=name, namespace=self.namespace, replicas=output.replicas)
        if self.spec.output.target == "KServe":
            return (as_inference_service(deployment),)
        return (
            deployment,
            build_service(engine, provenance, name=name, namespace=self.namespace),
            build_disruption_budget(provenance, name=name, namespace=self.namespace),
        )

    def verification(self, trial: Trial, owner: Manifest) -> Manifest:
        """The Job that measures a deployed winner, but for its name and the address of the pod."""
        launch = self._launch(trial)
        expected = self.expected_rate(trial.configuration, (trial,))
        request = trial_request(
            self.spec,
            trial,
            (),
            launch,
            self._places(),
            seen=self._seen,
            expected_tokens_per_s=expected,
            accelerator=self.accelerator,
        )
        engine = self._engine(launch, trial_volume(self.spec.artifacts, self.spec.model.claim))
        pod = replace(
            self._pod(engine, owner, 1),
            request=request,
            measure_resources=measure_resources(self.accelerator, expected),
        )
        return build_verification(pod, self.spec.workload)

    @property
    def engine_image(self) -> str:
        """What the engine's pods run."""
        return pool_image(self.pool, self.accelerator, self._version.text, self.installation.engine_image)

    def _launch(self, trial: Trial) -> EngineLaunch:
        loaded = profile_of(self.model).loaded_bytes(trial.configuration) if self.model else None
        return engine_launch(
            trial.configuration,
            self.accelerator,
            model_path=MODEL_MOUNT,
            served_model_name=self.tuning,
            port=ENGINE_PORT,
            pool_env=self.pool.env,
            max_model_len=self.max_model_len,
            trust_remote_code=self.spec.model.trust_remote_code,
            seed=self.spec.search.seed,
            startup_timeout_s=self.installation.startup.seconds(loaded),
            adapters=ServedAdapters.of(self.adapters, ADAPTERS_MOUNT),
            engine_version=parse_version(self._version.text),
        )

    @property
    def _version(self) -> EngineVersion:
        return pool_engine(self.pool, self.installation.engine_image)

    @property
    def adapters(self) -> tuple[FetchedAdapter, ...]:
        return self.model.adapters if self.model else ()

    @property
    def _seen(self) -> Digests:
        if self.model is None:
            return Digests()
        return Digests(
            self.model.digest,
            {variant.label: variant.digest for variant in self.model.variants},
            {adapter.name: adapter.digest for adapter in self.model.adapters},
        )

    @property
    def _fetched_adapters(self) -> AdaptersVolume | None:
        """Brought by an init container: what was measured, by its digest."""
        if not self.adapters:
            return None
        model = self.spec.model
        wanted = adapter_sources(model, CLAIM_MOUNT if model.claim else None, self._seen)
        words = [word for one in wanted for word in ("--adapter", one.name, _pinned(one), one.digest or "")]
        token = model_source(model).token_env
        where = ("--directory", ADAPTERS_MOUNT, "--cache", f"{ADAPTERS_MOUNT}/.cache")
        more = (*(("--token-env", token) if token else ()), *(("--mount", CLAIM_MOUNT) if model.claim else ()))
        in_claim = any(adapter.uri.startswith("pvc://") for adapter in model.adapters)
        return AdaptersVolume(self._fetching(*words, *where, *more), model.claim if in_claim else None)

    def _engine(self, launch: EngineLaunch, model: ModelVolume, adapters: AdaptersVolume | None = None) -> EnginePod:
        pool, installation = self.pool, self.installation
        return EnginePod(
            launch=launch,
            accelerator=self.accelerator,
            image=self.engine_image,
            model=model,
            node_selector=dict(pool.node_selector),
            tolerations=pool.tolerations,
            user_id=installation.user_id,
            command=installation.engine_command,
            extra=installation.extra,
            adapters=adapters,
            template=pool.pod_template,
            claim_template=pool.resource_claim_template,
        )

    def _pod(self, engine: EnginePod, owner: Manifest, attempt: int) -> TrialPod:
        return TrialPod(
            engine=engine,
            request=fetch_request(self.spec, self.tuning, self.pool.name, self._places()),
            runner_image=self.installation.runner_image_for(self.accelerator),
            timeout=self.spec.budget.trial_timeout,
            namespace=self.namespace,
            attempt=attempt,
            runner_command=self.installation.runner_command,
            runner_secrets=self.installation.runner_secrets,
            hub_secrets=hub_secrets(self.spec.model),
            runner_env=dict(self.installation.runner_env),
            runner_extra=self.installation.extra,
            queue_name=self.spec.queue_name,
            owner=owner,
        )

    def _places(self) -> TrialPlaces:
        return trial_places(self.namespace, self.tuning, self.pool.name, self.spec.artifacts, self.spec.model.claim)

    def _served(self, trial: Trial) -> ModelVolume:
        """Mounted where it lies in a claim, fetched where it does not."""
        artifacts, model = self.spec.artifacts, self.model
        store = artifacts.pvc if artifacts else None
        digest = trial.status.artifact_digest
        if trial.configuration.made:
            if digest is None:
                raise CannotDeploy(
                    f"{trial.name} does not say which artifact it served; delete it, so that it is measured again"
                )
            if store is not None:
                return artifact_volume(store, digest)
            return self._linked("--store", self._places().store, "--digest", digest)
        if model is None or model.path is None:
            raise CannotDeploy("it is not recorded where the model lies; make the tuning again")
        source, path, digest = model_source(self.spec.model), model.path, model.digest
        if (name := trial.configuration.variant) is not None:
            variant = model.variant(name)
            sources = {one.label: one.source for one in variant_sources(self.spec.model)}
            if variant is None or variant.label not in sources:
                raise CannotDeploy(f"spec.model.variants has no {name} any more; put it back, or make the tuning again")
            source, path, digest = sources[variant.label], variant.path, variant.digest
        volume = served_volume(path, store=store, model_claim=self.spec.model.claim)
        return volume or self._linked(*_words(source, digest))

    def _linked(self, *what: str) -> LinkedVolume:
        where = ("--directory", TRIAL_MOUNT, "--cache", f"{STORE_MOUNT}/cache")
        return LinkedVolume(fetching=self._fetching(*what, *where))

    def _fetching(self, *words: str) -> Fetching:
        """An init container that brings what a winner serves."""
        installation = self.installation
        return Fetching(
            image=installation.runner_image_for(self.accelerator),
            command=(*installation.runner_command, "fetch", *words),
            env=dict(installation.runner_env),
            secrets=(*hub_secrets(self.spec.model), *installation.runner_secrets),
            extra=installation.extra,
        )


def _pinned(adapter: AdapterSource) -> str:
    """Where the adapter is, in one word."""
    source = adapter.source
    return f"{source.uri}@{source.revision}" if source.uri.startswith("hf://") and source.revision else source.uri


def _words(source: ModelSource, digest: str) -> tuple[str, ...]:
    """Arguments of `haqa_runner fetch` for a checkpoint that was measured."""
    source = pinned(source, digest)
    return (
        *("--model", source.uri, "--digest", digest),
        *(("--revision", source.revision) if source.revision else ()),
        *(("--token-env", source.token_env) if source.token_env else ()),
        *(("--trust-remote-code",) if source.trust_remote_code else ()),
    )
