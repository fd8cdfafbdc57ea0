"""What a model folder holds, read from its configuration and its weight files' headers: nothing is loaded.

A folder that lacks something is refused here, in a second and with a sentence, and not by a library minutes later.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of

WEIGHTS = ".safetensors"
PATTERNS = (f"*{WEIGHTS}", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Files that belong to a model: weights, configuration, tokenizer. Pickled weights run code when opened: left out."""
CODE_PATTERNS = ("*.py",)
IGNORED_PATTERNS = ("*/*", "consolidated*.safetensors", "adapter_model*")
"""Folders inside (`original/`, `onnx/`), Mistral's second copy of the weights, and LoRA adapters."""

ADAPTER_PATTERNS = ("adapter_config.json", "adapter_model.safetensors", "added_tokens.json")
"""Files that belong to a LoRA adapter, in peft's layout."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "*.tiktoken", "tekken.json")
INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_OTHER_WEIGHTS = ("*.gguf", "*.bin", "*.pt", "*.pth", "*.onnx", "*.h5", "*.msgpack")
_INSTEAD_OF_FILES = {
    b"version https://git-lfs": "a pointer of git-lfs and not the file; run `git lfs pull` there, or fetch it again",
    b"<!doctype html": "a web page, such as a proxy's or a hub's login; fetch the file again",
    b"<html": "a web page, such as a proxy's or a hub's login; fetch the file again",
}
"""What is sometimes saved under a file's name, by how it begins in small letters."""
LARGEST_HEADER_BYTES = 100 * 2**20
"""The format's own limit."""


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class FileSet:
    """Which files of a folder belong to what is fetched.

    Attributes:
        patterns: Of names relative to the folder.
        ignored: Of those, which are not meant.
        needed: Without this one it is something else.
    """

    patterns: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    needed: str = "config.json"

    def has(self, name: str) -> bool:
        """Whether a file of this name is one of them."""
        wanted = any(fnmatch(name, pattern) for pattern in self.patterns)
        return wanted and not any(fnmatch(name, pattern) for pattern in self.ignored)

    def of(self, folder: Path) -> list[Path]:
        """Those that lie directly in `folder`, sorted by name."""
        return sorted(path for path in folder.iterdir() if path.is_file() and self.has(path.name))


MODEL_FILES = FileSet(PATTERNS, IGNORED_PATTERNS)
MODEL_FILES_WITH_CODE = FileSet((*PATTERNS, *CODE_PATTERNS), IGNORED_PATTERNS)
ADAPTER_FILES = FileSet(ADAPTER_PATTERNS, ("*/*",), needed="adapter_config.json")


def model_files(folder: Path, *, code: bool = False) -> list[Path]:
    """The files directly in `folder` that belong to the model, sorted by name; Python files only if `code`."""
    return (MODEL_FILES_WITH_CODE if code else MODEL_FILES).of(folder)


def check_model(
    folder: Path,
    uri: str,
    *,
    trust_remote_code: bool = False,
    knows_model_type: Callable[[str], bool] | None = None,
) -> None:
    """Raises TrialFailure (ModelFetch) unless `folder` is a model that can be loaded.

    `knows_model_type` says whether the installed transformers has a class for `model_type`; it is asked only for
    checkpoints that bring code of their own.
    """
    config = read_config(folder, uri)
    if "auto_map" in config and not trust_remote_code:
        model_type = str(config.get("model_type", ""))
        if not (knows_model_type or _transformers_knows)(model_type):
            raise _refused(
                uri,
                f'its code is part of the checkpoint (model_type "{model_type}", auto_map in config.json); '
                "read that code, then set model.trustRemoteCode: true",
            )
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        raise _refused(uri, f"no tokenizer in {folder}; add tokenizer.json (or tokenizer.model) beside config.json")
    for path in weight_files(folder, uri):
        read_header(path, uri)


def read_config(folder: Path, uri: str) -> dict[str, Any]:
    """The model's config.json. Raises TrialFailure (ModelFetch) if it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _refused(uri, _without_config(folder)) from None
    except (OSError, ValueError) as error:
        raise _refused(uri, f"{path} {_unreadable(path, error)}") from error
    if not isinstance(config, dict):
        raise _refused(uri, f"{path} is not a JSON object; fetch or copy it again")
    return config


def weight_files(folder: Path, uri: str) -> list[Path]:
    """The safetensors files that make up the model. Raises TrialFailure if there are none or some are missing."""
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise _refused(uri, f"{index} {_unreadable(index, error)}") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise _refused(
                uri,
                f"{len(missing)} of {len(names)} weight files are missing in {folder}, first {missing[0]}; copy them",
            )
        return [folder / name for name in names]
    found = [path for path in model_files(folder) if path.suffix == WEIGHTS]
    if not found:
        raise _refused(uri, _without_weights(folder))
    return found


def read_header(path: Path, uri: str) -> tuple[TensorHeader, ...]:
    """The tensors of a safetensors file, from its header alone. Raises TrialFailure if the file is damaged."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, LARGEST_HEADER_BYTES):
                raise ValueError(f"header of {length} bytes in a file of {size}")
            entries = json.loads(stream.read(length))
        tensors = tuple(
            TensorHeader(
                name, entry["dtype"], tuple(entry["shape"]), entry["data_offsets"][1] - entry["data_offsets"][0]
            )
            for name, entry in entries.items()
            if name != "__metadata__"
        )
        expected = (
            8 + length + max((e["data_offsets"][1] for n, e in entries.items() if n != "__metadata__"), default=0)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        what = _instead(path) or f"not a safetensors file ({cause_of(error)}); fetch or copy it again"
        raise _refused(uri, f"{path} is {what}") from error
    if size < expected:
        raise _refused(uri, f"{path} is cut short ({size} of {expected} bytes); fetch or copy it again")
    return tensors


def _without_config(folder: Path) -> str:
    """Why a folder without config.json is no model, by what it holds."""
    if (folder / _ADAPTER).is_file():
        return _adapter(folder)
    ggufs = sorted(path.name for path in folder.glob("*.gguf"))
    if ggufs:
        return (
            f"{folder} holds {ggufs[0]}, a GGUF file for llama.cpp, which cannot be quantized again; name the folder "
            "of the original model, with config.json and safetensors"
        )
    return f"no config.json in {folder}; name the folder that holds config.json"


def _without_weights(folder: Path) -> str:
    if (folder / _ADAPTER).is_file():
        return _adapter(folder)
    others = [path.name for pattern in _OTHER_WEIGHTS for path in sorted(folder.glob(pattern))]
    seen = f"only {others[0]}, which is not supported" if others else "no weights"
    return f"{seen} in {folder}; save the model as safetensors (save_pretrained does)"


def _adapter(folder: Path) -> str:
    try:
        base = json.loads((folder / _ADAPTER).read_bytes()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    of = f" of {base}" if isinstance(base, str) and base else ""
    remedy = "name its base in model.uri, and this folder in model.adapters"
    return f"{folder} holds a LoRA adapter{of} and no model; {remedy}"


def _unreadable(path: Path, error: Exception) -> str:
    what = _instead(path)
    return f"is {what}" if what else f"cannot be read ({cause_of(error)}); fetch or copy it again"


def _instead(path: Path) -> str | None:
    """What lies there in place of the file that its name promises."""
    try:
        with path.open("rb") as stream:
            beginning = stream.read(64).lstrip().lower()
    except OSError:
        return None
    return next((what for begins, what in _INSTEAD_OF_FILES.items() if beginning.startswith(begins)), None)


def _transformers_knows(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _refused(uri: str, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.MODEL_FETCH, f"model {uri}: {why}")
