"""The class that a config names, built on the meta device: every module with its name and shape, and not one number."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haqa_contract.failures import cause_of
from haqa_runner.models.formats import QUANTIZATION_KEYS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_LONGEST_CAUSE = 160
_SIZES = ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings")


@dataclass(frozen=True)
class Built:
    """A model without weights, and its config with the class's own defaults filled in."""

    config: PretrainedConfig
    model: PreTrainedModel


class UnknownArchitecture(Exception):
    """The installed transformers cannot build the model; the message is a clause that says why."""


def build(config: Mapping[str, Any], folder: Path | None = None, *, trust_remote_code: bool = False) -> Built:
    """Builds the class that `config` names, without weights.

    Args:
        config: The parsed config.json.
        folder: Where the model's own code lies, if it may be run.
        trust_remote_code: Whether it may.

    Raises:
        UnknownArchitecture: there is no such class here, or it refuses this config.
    """
    try:
        with _quietly():
            return _built(_unquantized(dict(config)), folder if trust_remote_code else None)
    except UnknownArchitecture:
        raise
    except Exception as error:  # Whatever a class thinks of a config that it was not made for.
        raise UnknownArchitecture(f"transformers cannot build it ({_first_sentence(cause_of(error))})") from error


def class_named(architectures: object) -> type[PreTrainedModel] | None:
    """The class of transformers that has the first of these names."""
    import transformers

    name = str(next(iter(architectures), "")) if isinstance(architectures, (list, tuple)) else ""
    found = getattr(transformers, name, None) if name.isidentifier() else None
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if is_model else None


def loading_class(folder: Path, trust_remote_code: bool) -> Any:
    """The class to load a checkpoint with, towers and all: the one that its config names, where there is one."""
    import transformers

    config = json.loads((folder / "config.json").read_bytes())
    if trust_remote_code and "auto_map" in config:
        return transformers.AutoModelForCausalLM
    named = class_named(config.get("architectures"))
    return named or _class_for(_config_class(config, named))


def _built(config: Mapping[str, Any], folder: Path | None) -> Built:
    import torch
    import transformers

    if folder is not None and "auto_map" in config:
        own = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
        for name in QUANTIZATION_KEYS:
            own.__dict__.pop(name, None)
        with torch.device("meta"):
            return Built(own, transformers.AutoModelForCausalLM.from_config(own, trust_remote_code=True))
    named = class_named(config.get("architectures"))
    read = _read(_config_class(config, named), {k: v for k, v in config.items() if k != "auto_map"})
    model_class = named or _class_for(type(read))
    with torch.device("meta"):
        # `_from_config` and not the constructor: it ties weights and picks the attention that needs no extra library.
        return Built(read, model_class._from_config(read))


def _read(config_class: type[PretrainedConfig], config: Mapping[str, Any]) -> PretrainedConfig:
    """The config object, whose sizes are those that the file has.

    A class takes its own defaults where a file keeps the text model's fields in another place than it looks for them.
    """
    read = config_class.from_dict(dict(config))
    if not _misread(config, read):
        return read
    if "text_config" in config_class.sub_configs and "text_config" not in config:
        read = config_class.from_dict({**config, "text_config": dict(config)})
    wrong = _misread(config, read)
    if wrong:
        raise UnknownArchitecture(f"{config_class.__name__} reads another {wrong} than config.json has")
    return read


def _misread(config: Mapping[str, Any], read: PretrainedConfig) -> str | None:
    """The first size that the object has otherwise than the file."""
    inside = config.get("text_config")
    file = {**config, **(inside if isinstance(inside, Mapping) else {})}
    text = read.get_text_config()
    differing = (name for name in _SIZES if isinstance(file.get(name), int) and getattr(text, name, None) != file[name])
    return next(differing, None)


def _config_class(config: Mapping[str, Any], named: type[PreTrainedModel] | None) -> type[PretrainedConfig]:
    """That of the model type; where there is none, that of the architecture, which others reuse (Kimi DeepSeek's)."""
    import transformers

    model_type = str(config.get("model_type", ""))
    if model_type in transformers.CONFIG_MAPPING:
        found: type[PretrainedConfig] = transformers.CONFIG_MAPPING[model_type]
        return found
    own: type[PretrainedConfig] | None = named.config_class if named is not None else None
    if own is not None:
        return own
    raise UnknownArchitecture(f'transformers {transformers.__version__} has no class for model_type "{model_type}"')


def _class_for(config_class: type[PretrainedConfig]) -> type[PreTrainedModel]:
    """What transformers loads for a config of this type where the architecture's name says nothing to it."""
    from transformers.models.auto import modeling_auto

    for mapping in (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING, modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING):
        if config_class in mapping:
            found = mapping[config_class]
            first: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
            return first
    raise UnknownArchitecture(f"transformers has no language model for {config_class.__name__}")


def _unquantized(value: Any) -> Any:
    """How a checkpoint is stored is no part of what the model is. Numbers that JSON lacks are read as transformers
    writes them."""
    match value:
        case {"__float__": str(number)}:
            return float(number)
        case dict():
            return {name: _unquantized(inside) for name, inside in value.items() if name not in QUANTIZATION_KEYS}
        case list():
            return [_unquantized(inside) for inside in value]
        case _:
            return value


def _first_sentence(text: str) -> str:
    sentence = text.partition("\n")[0].partition(". ")[0]
    return sentence if len(sentence) <= _LONGEST_CAUSE else f"{sentence[: _LONGEST_CAUSE - 1]}…"


@contextmanager
def _quietly() -> Iterator[None]:
    """transformers warns of fields that it does not know, which is of no use to anybody here."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
