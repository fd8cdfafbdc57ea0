"""What would keep a tuning from running on this machine, before any time is spent."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from haqa_operator.api import QuantizationTuning
from haqa_operator.local.environments import engine_version, runner_environment, serving_environment
from haqa_operator.serving.settings import catalogue
from haqa_operator.serving.versions import release_of
from haqa_operator.tuning.preflight import metric_problems, setting_problems

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_WEIGHT_SUFFIXES = (".safetensors", ".bin")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_ADAPTER_WEIGHTS = "adapter_model*"


def local_problems(tuning: QuantizationTuning) -> list[str]:
    """Everything that would keep this tuning from running on this machine, as sentences."""
    return [
        *_environments(),
        *metric_problems(tuning),
        *setting_problems(tuning),
        *_places(tuning),
        *model_problems(tuning.spec.model.uri),
        *(
            problem
            for variant in tuning.spec.model.variants
            for problem in model_problems(variant.uri, f"spec.model.variants {variant.label}")
        ),
        *(
            problem
            for adapter in tuning.spec.model.adapters
            for problem in adapter_problems(adapter.uri, f"spec.model.adapters {adapter.name}")
        ),
    ]


def model_problems(uri: str, field: str = "spec.model.uri") -> list[str]:
    """What is wrong with a model folder; remote models are checked when they are fetched."""
    if not uri.startswith("file://"):
        return []
    where, path = f"{field}: {uri}", Path(uri.removeprefix("file://"))
    if not path.is_dir():
        return [f"{where}: no such folder; give the folder that holds config.json and the weights"]
    if not (path / "config.json").is_file():
        return [f"{where}: {_instead_of_a_model(path)}"]
    problems = []
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        problems.append(f"{where}: no tokenizer there ({', '.join(_TOKENIZER_FILES)}); save it with the model")
    if not any(file.suffix in _WEIGHT_SUFFIXES and not file.match(_ADAPTER_WEIGHTS) for file in path.iterdir()):
        problems.append(f"{where}: no weights there (*.safetensors); save the model with save_pretrained")
    return problems + _architecture_problems(where, read_config(path))


def adapter_problems(uri: str, field: str) -> list[str]:
    """What is wrong with an adapter's folder; remote ones are checked when they are fetched."""
    if not uri.startswith("file://"):
        return []
    where, path = f"{field}: {uri}", Path(uri.removeprefix("file://"))
    if not path.is_dir():
        return [f"{where}: no such folder; give the folder that holds adapter_config.json"]
    missing = [name for name in _ADAPTER_FILES if not (path / name).is_file()]
    if missing:
        return [f"{where}: no {' and no '.join(missing)} there; give the folder that peft's save_pretrained wrote"]
    return []


def _instead_of_a_model(path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        return "a LoRA adapter and no model; give its base, and this one in model.adapters"
    if any(path.glob("*.gguf")):
        return "GGUF files for llama.cpp; give the original model's folder, with config.json and safetensors"
    return "no config.json there; give a folder in the Hugging Face layout"


def read_config(path: Path) -> dict[str, Any]:
    """A model's config.json; empty where it cannot be read."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _architecture_problems(where: str, config: dict[str, Any]) -> list[str]:
    architectures = config.get("architectures") or []
    if not architectures:
        return [f"{where}: config.json names no `architectures`; vLLM needs one, for example LlamaForCausalLM"]
    here = catalogue(release_of(engine_version(serving_environment())))
    known = here.architectures
    # With an auto_map, the code that comes with the model says what it is (spec.model.trustRemoteCode).
    if "auto_map" in config or any(architecture in known for architecture in architectures):
        return []
    close = difflib.get_close_matches(architectures[0], known, n=1)
    hint = f"did you mean {close[0]}?" if close else "serve it with another engine"
    return [f"{where}: vLLM {here.version} does not serve the architecture {architectures[0]}; {hint}"]


def _environments() -> list[str]:
    return [
        f"the {environment.role} environment lacks {', '.join(missing)} ({environment.python}); run `haqa doctor`"
        for environment in (runner_environment(), serving_environment())
        if (missing := environment.missing())
    ]


def _places(tuning: QuantizationTuning) -> list[str]:
    problems = [
        f"{field}: {uri}: a claim is a place in a cluster; on one machine use file://"
        for field, uri in tuning.spec.model.uris.items()
        if uri.startswith("pvc://")
    ]
    artifacts = tuning.spec.artifacts
    if artifacts is not None and artifacts.pvc:
        problems.append(
            f"spec.artifacts.pvc: {artifacts.pvc}: a claim is a place in a cluster; on one machine use path or s3"
        )
    return problems
