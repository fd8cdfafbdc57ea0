"""`quantize`: fetches the model and leaves `<directory>/model`, a link to what the engine shall serve."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from haqa_contract import (
    FETCH_TRIAL,
    Algorithm,
    ArtifactReport,
    Calibration,
    Configuration,
    FailureReason,
    TrialReport,
    TrialRequest,
)
from haqa_contract.failures import TrialFailure, cause_of
from haqa_contract.model_facts import ModelFacts, with_head
from haqa_runner.datasets import FEWEST_WINDOWS, fingerprint, load_texts
from haqa_runner.disk import is_disk_full, size_text
from haqa_runner.models import FetchedModel, fetch_model
from haqa_runner.models.facts import model_facts, prediction_names
from haqa_runner.progress import Phases, ProgressSink
from haqa_runner.quantize.compiler import EAGER, REMEDY, compiler_problem
from haqa_runner.quantize.device import cpu_instead, has_accelerator
from haqa_runner.quantize.look import check_variant, looked_at, place_adapters, served_source
from haqa_runner.quantize.machine import memory_limit_bytes, peak_rss_bytes, reset_peak_rss
from haqa_runner.quantize.recipes import RECIPE_VERSION, ModifierPlan, recipe
from haqa_runner.quantize.sizes import artifact_bytes, fits_whole, plan_samples
from haqa_runner.store import Artifact, ArtifactKey, ArtifactStore, CalibrationKey, open_store
from haqa_runner.store.asked import Known, recall, remember

log = logging.getLogger(__name__)

MODEL_LINK = "model"
_TOOLS = ("llmcompressor", "compressed-tensors", "transformers", "torch")
_TEXTS_PER_SAMPLE = 64
"""Texts read for each calibration sample: rows of a dataset may be a few words long."""
_COMPILER_WORDS = ("c compiler", "python.h", "gcc", "clang")
_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator")


@dataclass(frozen=True)
class _Plan:
    """What shall be made of which model.

    Attributes:
        by_file: The model does not fit into memory, and plain rounding can do without all of it at once.
    """

    model: FetchedModel
    facts: ModelFacts
    modifiers: tuple[ModifierPlan, ...]
    calibration: Calibration
    key: ArtifactKey
    warnings: tuple[str, ...]
    by_file: bool


def run(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """Fetches the model, makes or finds the artifact, links it. Raises TrialFailure with the reason if it cannot."""
    if request.trial == FETCH_TRIAL:
        return _look(request, phases, progress)
    if request.adapters:
        with phases.measure("fetch"):
            place_adapters(request, progress)
    return _quantized(request, phases, progress) if request.configuration.made else _plain(request, phases, progress)


def _look(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """What the model is, before any trial."""
    # A store that cannot be used would else be noticed after the baseline has been measured.
    open_store(request.store, Path(request.cache)).check()
    with phases.measure("fetch"):
        model = fetch_model(request.model, Path(request.cache), progress)
        link_model(Path(request.directory), model.path)
        found = as_it_is(model).model_copy(update=looked_at(request, model, progress))
    return TrialReport(trial=request.trial, artifact=found)


def _plain(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """A checkpoint that is served as it is."""
    with phases.measure("fetch"):
        model = fetch_model(served_source(request), Path(request.cache), progress)
    check_variant(request.configuration, model.digest)
    link_model(Path(request.directory), model.path)
    return TrialReport(trial=request.trial, artifact=as_it_is(model))


def _quantized(request: TrialRequest, phases: Phases, progress: ProgressSink) -> TrialReport:
    """The artifact, from the store where it is there: then the model itself is not even fetched."""
    store = open_store(request.store, Path(request.cache))
    if request.artifact is not None:
        return _served(request, store.fetch(request.artifact, phases, progress), request.model_digest or "", progress)
    asked = _asked(request)
    known = recall(request.store, asked) if asked is not None else None
    found = _still_there(store, known.digest, phases, progress) if known is not None else None
    if known is not None and found is not None:
        return _served(request, found, request.model_digest or "", progress, known.warnings)
    with phases.measure("fetch"):
        model = fetch_model(served_source(request), Path(request.cache), progress)
    if request.model_digest not in (None, model.digest):
        raise TrialFailure(
            FailureReason.MODEL_FETCH,
            f"{request.model.uri} is {model.digest} now, and {request.model_digest} was looked at; pin "
            "spec.model.revision, or make the tuning again",
        )
    plan = _plan(request, model)
    peaks: list[int] = []

    def build(folder: Path) -> None:
        with phases.measure("quantize"):
            peaks.append(_build(request, plan, folder, progress))

    artifact = store.obtain(
        plan.key,
        build,
        estimate_bytes=artifact_bytes(plan.facts, request.configuration.scheme),
        phases=phases,
        progress=progress,
        wait_s=request.quantize_timeout_s,
    )
    if asked is not None:
        remember(request.store, asked, Known(digest=artifact.digest, warnings=plan.warnings))
    slower = _without_triton() if peaks else ()
    return _served(request, artifact, model.digest, progress, (*plan.warnings, *slower), *peaks)


def _served(
    request: TrialRequest,
    artifact: Artifact,
    model_digest: str,
    progress: ProgressSink,
    warnings: Sequence[str] = (),
    peak: int | None = None,
) -> TrialReport:
    """Links the artifact to where the engine looks, and says which it is."""
    link_model(Path(request.directory), artifact.path)
    how = request.configuration.describe()
    phase = "fetch" if artifact.reused else "quantize"
    progress(phase, 1.0, f"{how}: {size_text(artifact.size_bytes)}")
    report = ArtifactReport(
        digest=artifact.digest,
        path=str(artifact.path),
        size_bytes=artifact.size_bytes,
        reused=artifact.reused,
        model_digest=model_digest,
        tool_versions=artifact.tool_versions,
        peak_rss_bytes=peak,
    )
    return TrialReport(trial=request.trial, artifact=report, warnings=tuple(warnings))


def _asked(request: TrialRequest) -> ArtifactKey | None:
    """The artifact as it is asked for, before the model says what becomes of that; None of a model not looked at."""
    if request.model_digest is None:
        return None
    configuration = request.configuration
    versions = tool_versions(configuration.algorithm)
    return artifact_key(
        configuration, request.model_digest, request.calibration, versions, output_head=request.quantize_head
    )


def _still_there(store: ArtifactStore, digest: str, phases: Phases, progress: ProgressSink) -> Artifact | None:
    try:
        return store.fetch(digest, phases, progress)
    except TrialFailure as error:
        log.info("%s; it is made anew", error.message)
        return None


def artifact_key(
    configuration: Configuration,
    model_digest: str,
    calibration: Calibration,
    versions: dict[str, str],
    *,
    output_head: bool = False,
    prediction_layers: bool = False,
) -> ArtifactKey:
    """The content address of what `configuration` makes of a model; engine settings are no part of it."""
    return ArtifactKey(
        model_digest=model_digest,
        scheme=configuration.scheme,
        algorithm=configuration.algorithm,
        group_size=configuration.group_size,
        kv_cache=configuration.calibrated_kv_cache,
        calibration=CalibrationKey(
            dataset=fingerprint(calibration.dataset),
            samples=calibration.samples,
            sequence_length=calibration.sequence_length,
            seed=calibration.seed,
        )
        if configuration.calibrated
        else None,
        output_head=output_head,
        prediction_layers=prediction_layers,
        recipe_version=RECIPE_VERSION,
        tool_versions=versions,
    )


def tool_versions(algorithm: Algorithm) -> dict[str, str]:
    """Versions of what decides an artifact's content. Raises TrialFailure if a tool is not installed.

    Without local labels (2.13.0+cpu): what was made with one build of torch is served in the pools of all.
    """
    names = (*_TOOLS, *(("auto-round",) if algorithm is Algorithm.AUTOROUND else ()))
    try:
        return {name: version(name).partition("+")[0] for name in names}
    except PackageNotFoundError as error:
        raise TrialFailure(
            FailureReason.QUANTIZATION_FAILED,
            f"{error.name} is not installed in this environment; install the package's `runner` extra",
        ) from error


def link_model(directory: Path, target: Path) -> None:
    """Points `<directory>/model` at `target`, replacing an older link at once."""
    link = directory / MODEL_LINK
    temporary = directory / f".{MODEL_LINK}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TrialFailure(
            FailureReason.QUANTIZATION_FAILED, f"{link} is in the way of the link to the model; remove it"
        ) from error


def _plan(request: TrialRequest, model: FetchedModel) -> _Plan:
    """Everything that can be decided, or refused, without loading a weight."""
    configuration = request.configuration
    facts = model_facts(model.path, request.model.uri, trust_remote_code=request.model.trust_remote_code)
    warnings = cpu_instead(request.accelerator, FailureReason.QUANTIZATION_FAILED)
    accelerator = has_accelerator()
    compiles = not accelerator or compiler_problem() is None
    if request.quantize_head:
        facts = with_head(facts)
    modifiers = recipe(configuration, facts, accelerator=accelerator, compiles=compiles)
    calibration = request.calibration
    if configuration.calibrated:
        samples = plan_samples(calibration, facts, memory_limit_bytes())
        calibration = calibration.model_copy(update={"samples": samples.samples})
        warnings = (*warnings, *((samples.warning,) if samples.warning else ()))
    key = artifact_key(
        configuration,
        model.digest,
        calibration,
        tool_versions(configuration.algorithm),
        output_head=request.quantize_head,
        prediction_layers=bool(prediction_names(model.path, request.model.uri)),
    )
    by_file = not configuration.calibrated and not fits_whole(facts, memory_limit_bytes())
    return _Plan(model, facts, modifiers, calibration, key, warnings, by_file)


def _build(request: TrialRequest, plan: _Plan, folder: Path, progress: ProgressSink) -> int:
    """Makes the artifact in `folder`; returns the peak of this process's resident memory in bytes."""
    configuration = request.configuration
    progress("quantize", 0.0, f"{configuration.describe()}: reading calibration data and importing")
    texts: list[str] = []
    if configuration.calibrated:
        limit = plan.calibration.samples * _TEXTS_PER_SAMPLE
        texts = load_texts(plan.calibration.dataset, limit=limit, seed=plan.calibration.seed)
    reset_peak_rss()
    try:
        from haqa_runner.quantize.warm import compressor

        job = compressor.Job(
            plan.model.path,
            plan.modifiers,
            plan.calibration,
            texts,
            request.model.trust_remote_code,
            at_least=FEWEST_WINDOWS if "calibration" in request.samples_by_default else None,
        )
        if plan.by_file:
            from haqa_runner.quantize import model_free

            model_free.compress(job, plan.facts, folder, progress)
        else:
            compressor.compress(job, folder, progress)
    except TrialFailure:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise
        log.exception("llm-compressor failed")
        raise _failure(configuration, error) from error
    return peak_rss_bytes()


def _failure(configuration: Configuration, error: Exception) -> TrialFailure:
    words = str(error).lower()
    if isinstance(error, MemoryError) or any(part in words for part in _OUT_OF_MEMORY_WORDS):
        return TrialFailure(
            FailureReason.QUANTIZATION_OOM,
            f"{configuration.describe()}: out of memory while quantizing ({cause_of(error)}); its peak was "
            f"{size_text(peak_rss_bytes())}. Give it more memory, or fewer or shorter calibration samples",
        )
    problem = compiler_problem() if any(part in words for part in _COMPILER_WORDS) else None
    if problem is not None:
        return TrialFailure(
            FailureReason.QUANTIZATION_FAILED,
            f"{configuration.describe()}: Triton could not build its kernels, since {problem}; {REMEDY}",
        )
    return TrialFailure(
        FailureReason.QUANTIZATION_FAILED,
        f"{configuration.describe()}: llm-compressor could not make it ({cause_of(error)}); its log has the traceback",
    )


def _without_triton() -> tuple[str, ...]:
    """What to know about an artifact that was made on an accelerator without its kernels."""
    problem = compiler_problem() if has_accelerator() else None
    if problem is None:
        return ()
    return (f"{problem}, so torch's operations quantized in place of Triton's kernels, slower ({EAGER}); {REMEDY}",)


def as_it_is(model: FetchedModel) -> ArtifactReport:
    """A checkpoint that nothing is made of."""
    return ArtifactReport(
        digest=hashlib.sha256(model.digest.encode()).hexdigest(),
        path=str(model.path),
        size_bytes=model.size_bytes,
        reused=True,
        model_digest=model.digest,
    )
