"""A model's weights as names and shapes, whoever named them: its class, or the headers of its files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from haqa_contract.model_facts import Role

_LAYER = re.compile(r"^(?P<stack>(?:.*\.)?[A-Za-z_]+)\.(?P<number>\d+)\.(?P<inside>.+)$")
_STACKS = ("layers", "h", "blocks", "block", "layer")
"""What the list of a text model's layers is called."""
_TOWERS = {
    Role.VISION: ("visual", "vision", "vit", "image", "patch"),
    Role.AUDIO: ("audio", "speech", "sound", "whisper"),
    Role.PROJECTOR: ("projector", "connector", "merger", "resampler", "adaptor"),
}
_PREDICTORS = ("mtp", "nextn")
"""How the names of modules begin that guess further tokens."""
_EMBEDDINGS = ("embed_tokens", "wte", "wpe", "word_embeddings", "embed_in", "embeddings", "tok_embeddings")
_HEADS = ("lm_head", "embed_out", "output", "score")


def is_predictor(part: str) -> bool:
    """Whether a part of a path names modules that guess further tokens: `mtp`, `mtp_layers`, `nextn_block`."""
    return part.startswith(_PREDICTORS)


@dataclass(frozen=True)
class Weight:
    """One parameter.

    Attributes:
        path: Its name; without the last `.weight`.
        shape: As the file or the class has it.
        linear: A matrix that the model multiplies with, inputs last unless `inputs_first`.
        inputs_first: Rows and columns are the other way round.
    """

    path: str
    shape: tuple[int, ...]
    linear: bool = False
    inputs_first: bool = False

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Place:
    """Where in its model a weight is.

    Attributes:
        layer: Number of the text model's layer; None outside of those.
        inside: The path below the layer, or the whole path.
    """

    layer: int | None
    inside: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Names alone, the numbers of experts and the like left out."""
        return tuple(part for part in self.inside.split(".") if not part.isdigit())

    @property
    def name(self) -> str:
        return ".".join(self.parts)

    @property
    def block(self) -> str:
        """The part of the layer that it belongs to: `self_attn`, `mlp`."""
        return self.inside.split(".")[0]

    @property
    def leaf(self) -> str:
        return self.parts[-1]


@dataclass(frozen=True)
class Outline:
    """Which parts a model has.

    Attributes:
        stack: Path of the list of the text model's layers; empty where none was found.
        layers: How many of them compute the next token; what comes after them predicts further ones.
        towers: Paths of parts that read something else than text.
        embeddings: Paths of tables that are looked up.
        head: Path of the matrix that gives the logits, where it is one of its own.
        plan: How the class itself cuts its matrices: `layers.*.self_attn.q_proj` -> `colwise`.
    """

    stack: str
    layers: int
    towers: Mapping[str, Role] = field(default_factory=dict)
    embeddings: frozenset[str] = frozenset()
    head: str | None = None
    plan: Mapping[str, str] = field(default_factory=dict)

    def place(self, path: str) -> Place:
        inside = path.removeprefix(f"{self.stack}.") if self.stack and path.startswith(f"{self.stack}.") else None
        number, _, rest = (inside or "").partition(".")
        if not number.isdigit() or not rest:
            return Place(None, path)
        return Place(int(number), rest)

    def predicts(self, place: Place) -> bool:
        """Whether what is there guesses further tokens, by its name or by coming after the last layer."""
        return any(map(is_predictor, place.parts)) or (place.layer is not None and place.layer >= self.layers)

    def tower_of(self, path: str) -> Role | None:
        return next((role for root, role in self.towers.items() if path == root or path.startswith(f"{root}.")), None)


def outline_of_names(paths: Iterable[str], layers: int) -> Outline:
    """The outline as far as names show it: the stack of layers whose matrices are not those of a tower.

    Args:
        paths: Names of all weights.
        layers: `num_hidden_layers` of the config; 0 where it is not known.
    """
    found = list(paths)
    roots = {path: role for path in found if (role := _tower_by_name(path)) is not None}
    stacks: dict[str, set[int]] = {}
    for path in found:
        match = None if path in roots else _LAYER.match(path)
        while match is not None:
            if match["stack"].rpartition(".")[2] in _STACKS:
                stacks.setdefault(match["stack"], set()).add(int(match["number"]))
                break
            match = _LAYER.match(match["stack"] + ".")
    # The outermost list of layers comes first: experts and the like are lists inside of it.
    stack = max(stacks, key=lambda one: (len(stacks[one]), -len(one)), default="")
    return Outline(
        stack=stack,
        layers=layers or len(stacks.get(stack, ())),
        towers=roots,
        embeddings=frozenset(path for path in found if path.rpartition(".")[2] in _EMBEDDINGS),
        head=next((path for path in found if path.rpartition(".")[2] in _HEADS and ".layers." not in path), None),
    )


def _tower_by_name(path: str) -> Role | None:
    for role, words in _TOWERS.items():
        if any(word in part.lower() for part in path.split(".") for word in words):
            return role
    return None
