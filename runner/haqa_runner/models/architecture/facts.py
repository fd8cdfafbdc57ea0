"""`facts_of`: a model folder's architecture, from its class where there is one and its files' headers where not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haqa_contract.model_facts import ModelFacts, Role
from haqa_runner.models.architecture.context_length import context_length
from haqa_runner.models.architecture.keeping import Kept, kept_by
from haqa_runner.models.architecture.roles import Sorted, matrices, sort_weights
from haqa_runner.models.architecture.weights import Outline, Weight, outline_of_names
from haqa_runner.models.formats import TEXT_MODELS

if TYPE_CHECKING:
    from haqa_runner.models.architecture.building import Built
    from haqa_runner.models.checkpoint import TensorHeader

_FIT = 0.01
"""A class whose parameters differ by more from what the files hold is not the one that the files were made by."""
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def facts_of(
    config: Mapping[str, Any],
    headers: Sequence[TensorHeader] = (),
    folder: Path | None = None,
    *,
    trust_remote_code: bool = False,
) -> ModelFacts:
    """What a model is made of; never raises for what a config says.

    Args:
        config: The parsed config.json.
        headers: Of the unquantized checkpoint's files; empty where there are none, or they hold packed numbers.
        folder: The checkpoint's, for code of its own.
        trust_remote_code: Whether that code may run.
    """
    from haqa_runner.models.architecture.building import UnknownArchitecture, build

    try:
        return facts_of_class(build(config, folder, trust_remote_code=trust_remote_code), config, headers)
    except UnknownArchitecture as error:
        return facts_of_headers(config, headers, str(error))


def facts_of_class(built: Built, config: Mapping[str, Any], headers: Sequence[TensorHeader] = ()) -> ModelFacts:
    """What the class says, reconciled with the tensors of the checkpoint where those are known.

    Args:
        built: The model on the meta device.
        config: The parsed config.json.
        headers: Of the unquantized checkpoint's files; empty where there are none, or they hold packed numbers.
    """
    text = _text_of(config) | _fields(built.config.get_text_config())
    outline = _outline_of_class(built, _number(text, *_LAYERS))
    weights = list(_weights_of_class(built.model))
    beside = _predictors(weights, headers, outline)
    found = sort_weights([*weights, *beside], outline, _number(text, *_HIDDEN))
    kept = kept_by(found, text, _state_keepers(built.model, outline))
    facts = _facts(config, text, outline, found, kept, headers)
    return facts.model_copy(update={"source": "class", "notes": _differences(weights, beside, headers)})


def facts_of_headers(config: Mapping[str, Any], headers: Sequence[TensorHeader], why: str) -> ModelFacts:
    """What names and shapes of the tensors say, where there is no class; nothing of memory where not even they do.

    Args:
        why: A clause that says why there is no class.
    """
    text = _text_of(config)
    outline = outline_of_names((_path(header.name) for header in headers), _number(text, *_LAYERS))
    weights = [_weight_of_header(header, outline) for header in headers]
    hidden = _number(text, *_HIDDEN) or _usual_width(weights, outline)
    found = sort_weights(weights, outline, hidden)
    facts = _facts(config, text, outline, found, kept_by(found, text), headers)
    understood = any(matrix.rounded for matrix in facts.matrices)
    note = f"{facts.architecture}: {why}, so its shapes are taken from its files"
    if not understood:
        note += ", where nothing could be made of them: whether it fits is seen in its trials"
    return facts.model_copy(
        update={
            "source": "headers" if understood else "nothing",
            "matrices": facts.matrices if understood else (),
            "cache": facts.cache if understood else None,
            "notes": (note,),
        }
    )


def prediction_layers(config: Mapping[str, Any], headers: Sequence[TensorHeader]) -> set[str]:
    """Names of the tensors that belong to layers which guess further tokens, by names and numbers of layers alone."""
    text = _text_of(config)
    outline = outline_of_names((_path(header.name) for header in headers), _number(text, *_LAYERS))
    weights = [_weight_of_header(header, outline) for header in headers]
    found = sort_weights(weights, outline, _number(text, *_HIDDEN) or _usual_width(weights, outline))
    return {header.name for header, one in zip(headers, found, strict=True) if one.role is Role.PREDICTION}


_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KINDS = ("layer_types", "head_dim", "sliding_window", "vocab_size", "num_experts_per_tok")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "top_k_experts", "moe_top_k", "moe_topk", "num_experts_per_token")
_PREDICTED = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def _fields(config: Any) -> dict[str, Any]:
    """A config object's fields, those among them that it works out or has under another name."""
    worked_out = {name: _worked_out(config, name) for name in (*_LAYERS, *_HIDDEN, *_HEADS, *_KV_HEADS, *_KINDS)}
    return dict(config.to_dict()) | {name: value for name, value in worked_out.items() if value is not None}


def _worked_out(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # Where layers differ, some configs refuse to answer for all of them.
        return None


def _facts(
    config: Mapping[str, Any],
    text: Mapping[str, Any],
    outline: Outline,
    found: Sequence[Sorted],
    kept: Kept,
    headers: Sequence[TensorHeader],
) -> ModelFacts:
    hidden = _number(text, *_HIDDEN)
    heads = _number(text, *_HEADS)
    head_dim = _number(text, "head_dim") or (hidden // heads if heads else 0)
    all_matrices = matrices(found, outline, hidden)
    experts = _experts(found)
    return ModelFacts(
        architecture=str((config.get("architectures") or text.get("architectures") or [text.get("model_type")])[0]),
        model_type=str(config.get("model_type", "")),
        source="class",
        parameters=sum(one.weight.numbers for one in found),
        matrices=all_matrices,
        layers=outline.layers,
        hidden_size=hidden,
        vocab_size=_number(text, "vocab_size"),
        heads=heads,
        kv_heads=1 if kept.latent else (_number(text, *_KV_HEADS) or heads),
        head_dim=head_dim,
        latent=kept.latent,
        cache=kept.cache,
        state_numbers=kept.state_numbers,
        experts=experts,
        experts_per_token=min(experts, _number(text, *_EXPERTS_PER_TOKEN) or experts),
        predicted_tokens=_number(text, *_PREDICTED),
        max_positions=context_length(text),
        dtype=_dtype(text, headers),
    )


def _outline_of_class(built: Built, layers: int) -> Outline:
    import torch

    model = built.model
    paths = {id(module): name for name, module in model.named_modules()}
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    lists = [
        (name, module)
        for name, module in decoder.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) > 0
    ]
    root = paths.get(id(decoder), "")
    stack = next((name for name, module in lists if len(module) == layers), lists[0][0] if lists else "")
    head = model.get_output_embeddings()
    own_head = head is not None and not _shares(head, model.get_input_embeddings())
    return Outline(
        stack=".".join(part for part in (root, stack) if part),
        layers=layers,
        towers=_towers(built),
        embeddings=frozenset(name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)),
        head=paths.get(id(head)) if own_head else None,
        plan=getattr(decoder.config, "base_model_tp_plan", None) or {},
    )


def _shares(head: Any, embeddings: Any) -> bool:
    return embeddings is not None and getattr(head, "weight", None) is getattr(embeddings, "weight", None)


def _towers(built: Built) -> dict[str, Role]:
    """Parts whose config is not the text model's, and the projectors beside them."""
    from transformers import PreTrainedModel

    text = built.config.get_text_config()
    found: dict[str, Role] = {}
    for name, module in built.model.named_modules():
        if not name or not isinstance(module, PreTrainedModel) or any(name.startswith(f"{root}.") for root in found):
            continue
        if type(module.config) is type(text) or type(module.config) is type(built.config):
            continue
        kind = f"{name} {type(module.config).__name__}".lower()
        found[name] = Role.AUDIO if any(word in kind for word in ("audio", "speech", "sound")) else Role.VISION
    return found


def _weights_of_class(model: Any) -> Iterable[Weight]:
    import torch
    from transformers.pytorch_utils import Conv1D

    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner_path, _, leaf = name.rpartition(".")
        owner = modules[owner_path]
        path = owner_path if leaf == "weight" else name
        is_linear = isinstance(owner, torch.nn.Linear) and leaf == "weight"
        fused = parameter.ndim == 3 and leaf != "weight"
        inputs_first = isinstance(owner, Conv1D) or (fused and bool(getattr(owner, "is_transposed", False)))
        yield Weight(path, tuple(parameter.shape), is_linear or fused, inputs_first)


def _state_keepers(model: Any, outline: Outline) -> dict[str, Any]:
    """Modules of each layer, by number and block: `3.linear_attn`."""
    prefix = f"{outline.stack}."
    return {
        name.removeprefix(prefix): module
        for name, module in model.named_modules()
        if name.startswith(prefix) and name.removeprefix(prefix).count(".") == 1
    }


def _predictors(weights: Sequence[Weight], headers: Sequence[TensorHeader], outline: Outline) -> list[Weight]:
    """Tensors of the files for tokens beyond the next one, which transformers' classes leave out."""
    known = {weight.path for weight in weights}
    beside = []
    for header in headers:
        path = _path(header.name)
        if path not in known and outline.predicts(outline.place(path)):
            beside.append(Weight(path, header.shape, linear=len(header.shape) == 2))
    return beside


def _differences(
    weights: Sequence[Weight], beside: Sequence[Weight], headers: Sequence[TensorHeader]
) -> tuple[str, ...]:
    in_files = sum(math.prod(header.shape) for header in headers)
    in_class = sum(weight.numbers for weight in (*weights, *beside))
    if not headers or abs(in_files - in_class) <= _FIT * in_files:
        return ()
    return (
        f"the files hold {in_files:,} parameters and the class that config.json names has {in_class:,}; sizes "
        "in memory are the class's, so check that files and config belong together",
    )


def _weight_of_header(header: TensorHeader, outline: Outline) -> Weight:
    path = _path(header.name)
    matrix = len(header.shape) == 2 and path != header.name
    return Weight(path, header.shape, linear=(matrix and path not in outline.embeddings) or len(header.shape) == 3)


def _path(name: str) -> str:
    return name.removesuffix(".weight")


def _usual_width(weights: Iterable[Weight], outline: Outline) -> int:
    """The embedding's width, where no config says what it is."""
    return next((weight.shape[-1] for weight in weights if weight.path in outline.embeddings), 0)


def _experts(found: Iterable[Sorted]) -> int:
    """Experts of the first layer that has some."""
    by_name: dict[tuple[int | None, str, int, int], int] = {}
    for one in found:
        if one.role is Role.ROUTED_EXPERT:
            for name, rows, columns, count in one.matrices:
                key = (one.place.layer, name, rows, columns)
                by_name[key] = by_name.get(key, 0) + count
    return max(by_name.values(), default=0)


def _dtype(text: Mapping[str, Any], headers: Iterable[TensorHeader]) -> str:
    """The type that most bytes are in; the config's where there are no files."""
    sizes: dict[str, int] = {}
    for header in headers:
        if header.dtype in _DTYPES:
            sizes[_DTYPES[header.dtype]] = sizes.get(_DTYPES[header.dtype], 0) + header.size_bytes
    if sizes:
        return max(sizes, key=lambda name: sizes[name])
    return str(text.get("dtype") or text.get("torch_dtype") or "float32").removeprefix("torch.")


def _text_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The text model's fields on the top level."""
    inside = next((config[name] for name in TEXT_MODELS if name in config), None)
    return {**config, **(inside if isinstance(inside, Mapping) else {})}


def _number(text: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that is a number; 0 where none is."""
    found = (text.get(name) for name in names)
    return next((int(value) for value in found if isinstance(value, (int, float)) and not isinstance(value, bool)), 0)
