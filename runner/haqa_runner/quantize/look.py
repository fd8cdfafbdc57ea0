"""What a model and its published variants are, found out before any trial; and which of them a trial serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from haqa_contract import (
    AdapterReport,
    AdapterSource,
    Configuration,
    FailureReason,
    ModelSource,
    TrialRequest,
    VariantReport,
    VariantSource,
)
from haqa_contract.configuration import variant_name
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import ModelFacts
from haqa_runner.models import FetchedModel, fetch_adapter, look_at_model
from haqa_runner.models.adapters import check_adapter
from haqa_runner.models.checkpoint import ADAPTER_FILES
from haqa_runner.models.facts import model_facts
from haqa_runner.models.tokenizers import tokenizers_differ
from haqa_runner.progress import ProgressSink, no_progress
from haqa_runner.quantize.unsuited import unsuited_algorithms

_ALIKE = ("hidden_size", "layers", "vocab_size")
"""Facts that quantizing does not change."""


def served_source(request: TrialRequest) -> ModelSource:
    """The model, or the variant that the configuration names."""
    label = request.configuration.variant_label
    if label is None:
        return request.model
    found = next((variant.source for variant in request.variants if variant.label == label), None)
    if found is None:
        raise TrialFailure(FailureReason.MODEL_FETCH, f"the request has no variant {label}")
    return found


def check_variant(configuration: Configuration, digest: str) -> None:
    """Raises TrialFailure (ModelFetch) where the variant's files are not those that the tuning has looked at."""
    variant, label = configuration.variant, configuration.variant_label
    if variant is None or label is None or variant == variant_name(label, digest):
        return
    raise TrialFailure(
        FailureReason.MODEL_FETCH,
        f"model.variants {label} is {digest} now, and {variant} was looked at; pin its revision, or tune the new one",
    )


def looked_at(request: TrialRequest, model: FetchedModel, progress: ProgressSink) -> dict[str, Any]:
    """`facts`, `variants` and `adapters` of the report of a fetch.

    Raises:
        TrialFailure: ModelFetch, with what is wrong with the model or one of its variants.
    """
    source = request.model
    facts = model_facts(model.path, source.uri, trust_remote_code=source.trust_remote_code)
    unsuited = unsuited_algorithms(facts, model.path, source.uri)
    return {
        "facts": facts.model_copy(update={"unsuited": unsuited}),
        "variants": tuple(_variant(one, request, model, facts, progress) for one in request.variants),
        "adapters": tuple(_adapter(one, request, facts, progress) for one in request.adapters),
    }


def place_adapters(request: TrialRequest, progress: ProgressSink) -> None:
    """Copies the adapters to where the engine finds them; raises as `place_adapter`."""
    place = Path(request.adapters_directory or Path(request.directory) / "adapters")
    for adapter in request.adapters:
        place_adapter(adapter, place, Path(request.cache), progress)


def place_adapter(adapter: AdapterSource, place: Path, cache: Path, progress: ProgressSink = no_progress) -> None:
    """Copies an adapter to a folder of its name in `place`.

    Raises:
        TrialFailure: ModelFetch, where it cannot be had or is not the one that the tuning has looked at.
    """
    found = fetch_adapter(adapter.source, cache, progress)
    if adapter.digest not in (None, found.digest):
        raise TrialFailure(
            FailureReason.MODEL_FETCH,
            f"model.adapters {adapter.name} is {found.digest} now, and {adapter.digest} was looked at; pin its "
            "revision, or tune anew",
        )
    target = place / adapter.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in ADAPTER_FILES.of(found.path):
        shutil.copyfile(path, target / path.name)


def _adapter(adapter: AdapterSource, request: TrialRequest, facts: ModelFacts, progress: ProgressSink) -> AdapterReport:
    with _named(f"spec.model.adapters {adapter.name}"):
        found = fetch_adapter(adapter.source, Path(request.cache), progress)
    known = check_adapter(found.path, adapter.source.uri, facts)
    return AdapterReport(
        name=adapter.name,
        digest=found.digest,
        path=str(found.path),
        size_bytes=found.size_bytes,
        rank=known.rank,
        targets=known.targets,
    )


def _variant(
    variant: VariantSource, request: TrialRequest, model: FetchedModel, facts: ModelFacts, progress: ProgressSink
) -> VariantReport:
    source = variant.source
    with (
        _named(f"spec.model.variants {variant.label}"),
        look_at_model(source, Path(request.cache), progress) as (found, folder),
    ):
        own = model_facts(folder, source.uri, trust_remote_code=source.trust_remote_code)
        other = _difference(facts, own) or tokenizers_differ(model.path, folder)
    if other is not None:
        raise TrialFailure(
            FailureReason.MODEL_FETCH,
            f"spec.model.variants {variant.label}: {source.uri} is not a checkpoint of the same model: {other}; a "
            "variant takes the same tokens and has the same layers",
        )
    return VariantReport(
        label=variant.label,
        digest=found.digest,
        path=str(found.path),
        weight_bytes=own.weight_bytes or found.size_bytes,
        quantization=own.quantization,
        predicted_tokens=own.predicted_tokens,
    )


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Puts the field at fault before what is said of it."""
    try:
        yield
    except TrialFailure as error:
        failure = error.failure
        raise TrialFailure(failure.reason, f"{field}: {failure.message}", failure.log_tail) from error


def _difference(one: ModelFacts, other: ModelFacts) -> str | None:
    """What the two disagree on, of what both know."""
    for name in _ALIKE:
        here, there = getattr(one, name), getattr(other, name)
        if here and there and here != there:
            return f"its {name.replace('_', ' ')} is {there}, the model's {here}"
    return None
