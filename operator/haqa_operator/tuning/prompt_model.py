"""What the agent is told of the model: bytes of weights and KV cache in each format that the space has."""

from __future__ import annotations

from haqa_contract import Configuration
from haqa_operator.agent.context import PromptModel, model_name
from haqa_operator.api import TuningSpec
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.space import SearchSpace

_WEIGHT_SETTINGS = ("dtype",)
_CACHE = "kv-cache-dtype"
_AUTO = "auto"
_MOST = 24


def prompt_model(spec: TuningSpec, profile: ModelProfile, space: SearchSpace) -> PromptModel:
    """The model's facts, for the formats of the baseline and the candidates."""
    weights: dict[str, int] = {}
    active: dict[str, int] = {}
    caches: dict[str, int] = {}
    for one in (space.baseline, *space.candidates):
        weights_in, cache_in = _weight_format(one), _cache_format(one)
        if profile.is_known and weights_in not in weights and len(weights) < _MOST:
            weights[weights_in] = round(profile.configured_weight_bytes(one))
            if profile.facts.experts:
                active[weights_in] = round(profile.configured_weight_bytes(one, active=True))
        if profile.has_cache and cache_in not in caches and len(caches) < _MOST:
            kind = str(one.settings.get(_CACHE, _AUTO))
            caches[cache_in] = round(profile.kv_bytes_per_token(kind, profile.compute_bytes(one)))
    return PromptModel(
        name=model_name(spec.model.uri),
        architecture=profile.facts.architecture,
        parameters=profile.parameters,
        layers=profile.facts.layers,
        hidden_size=profile.facts.hidden_size,
        dtype=profile.facts.dtype,
        weight_bytes=weights,
        active_bytes=active,
        kv_bytes_per_token=caches,
    )


def _weight_format(configuration: Configuration) -> str:
    """`W4A16 group-size=32`, `BF16 dtype=float32`, `NVFP4 variant=nvidia@0123456789ab`."""
    parts = [configuration.scheme.value]
    parts += [] if configuration.variant is None else [f"variant={configuration.variant}"]
    parts += [] if configuration.group_size is None else [f"group-size={configuration.group_size}"]
    settings = configuration.settings
    return " ".join(parts + [f"{name}={settings[name]}" for name in _WEIGHT_SETTINGS if name in settings])


def _cache_format(configuration: Configuration) -> str:
    settings = configuration.settings
    kind = str(settings.get(_CACHE, _AUTO))
    return f"{kind} with dtype={settings['dtype']}" if kind == _AUTO and "dtype" in settings else kind
