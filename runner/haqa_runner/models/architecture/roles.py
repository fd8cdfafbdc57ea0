"""What each matrix of a model is for, by its place and by what it stands beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from haqa_contract.model_facts import ROUNDABLE, Matrix, Role, Split
from haqa_runner.models.architecture.weights import Outline, Place, Weight

QUERIES_KEYS_VALUES = frozenset(
    [
        "q_proj",
        "k_proj",
        "v_proj",
        "kv_proj",
        "qkv_proj",
        "qkv",
        "query_key_value",
        "c_attn",
        "Wqkv",
        "W_pack",
        "wqkv",
        "wq",
        "wk",
        "wv",
        "q_a_proj",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_a_proj",
        "kv_b_proj",
        "query",
        "key",
        "value",
        "q_lin",
        "k_lin",
        "v_lin",
    ]
)
_STATE = frozenset(["conv1d", "conv", "A_log", "dt_bias", "dt_proj", "ssm", "x_proj"])
"""Beside these stand the projections of a layer that keeps a state instead of keys and values."""
_ROUTERS = frozenset(["gate", "router", "wg", "shared_expert_gate", "gate_weight"])
_ATTENTION = frozenset(["self_attn", "self_attention", "attn", "attention"])
_INDEXER = "indexer"
_EXPERTS = "experts"
_OUTWARD = frozenset(
    [
        "o_proj",
        "out_proj",
        "dense",
        "c_proj",
        "wo",
        "w2",
        "down_proj",
        "fc2",
        "fc_out",
        "dense_4h_to_h",
        "o_b_proj",
        "linear2",
    ]
)
"""Matrices whose outputs go back to the residual: tensor parallelism cuts them by their inputs."""
_CUTS = {"colwise": Split.ROWS, "rowwise": Split.COLUMNS}
_LOW_RANK = ("_a_proj", "_a_proj_with_mqa")
_SMALL = 8
"""Projections with so many times fewer outputs than inputs give a number a head (decay, gate)."""
_LARGE = 4
"""Of the hidden size, what a layer's matrix has at least on its other side if it is part of the token's way."""


@dataclass(frozen=True)
class Sorted:
    """A weight with its place and role.

    Attributes:
        matrices: Shape of each as outputs and inputs; two of them where gate and up are one tensor; empty for vectors.
    """

    weight: Weight
    place: Place
    role: Role
    matrices: tuple[tuple[str, int, int, int], ...] = ()
    """Name, rows, columns, how many"""


def sort_weights(weights: Iterable[Weight], outline: Outline, hidden: int) -> list[Sorted]:
    """All weights with their roles, in the model's order."""
    placed = [(weight, outline.place(weight.path)) for weight in weights]
    blocks: dict[tuple[int | None, str], set[str]] = {}
    for _, place in placed:
        blocks.setdefault((place.layer, place.block), set()).add(place.leaf)
    found = []
    for weight, place in placed:
        role = _role(weight, place, outline, blocks[place.layer, place.block], hidden)
        found.append(Sorted(weight, place, role, _shapes(weight, place, hidden)))
    return found


def matrices(sorted_weights: Sequence[Sorted], outline: Outline, hidden: int) -> tuple[Matrix, ...]:
    """Matrices of one name, role and shape together, in the model's order."""
    counts: Counter[Matrix] = Counter()
    for one in sorted_weights:
        for name, rows, columns, count in one.matrices:
            kind = Matrix(
                name=name,
                role=one.role,
                rows=rows,
                columns=columns,
                count=1,
                split=_split(name, one.role, rows, columns, outline, hidden),
                rounded=_is_rounded(one, rows, columns),
            )
            counts[kind] += count
    return tuple(kind.model_copy(update={"count": count}) for kind, count in counts.items())


def _role(weight: Weight, place: Place, outline: Outline, block: Set[str], hidden: int) -> Role:
    tower = outline.tower_of(weight.path)
    if tower is not None:
        return tower
    if weight.path in outline.embeddings:
        return Role.EMBEDDING
    if weight.path == outline.head:
        return Role.OUTPUT_HEAD
    if outline.predicts(place):
        return Role.PREDICTION
    if place.layer is None:
        return Role.PROJECTOR if outline.towers else Role.OTHER
    return _role_in_layer(weight, place, block, hidden)


def _role_in_layer(weight: Weight, place: Place, block: Set[str], hidden: int) -> Role:
    parts = place.parts
    if any(_INDEXER in part for part in parts):
        return Role.ROUTER
    if _EXPERTS in parts:
        return Role.ROUTED_EXPERT
    if not block.isdisjoint(_STATE):
        return Role.LINEAR_ATTENTION
    if not block.isdisjoint(QUERIES_KEYS_VALUES) or place.block in _ATTENTION:
        return Role.ATTENTION
    if not _ROUTERS.isdisjoint(parts):
        return Role.ROUTER
    if any("shared" in part for part in parts):
        return Role.SHARED_EXPERT
    sides = sorted(weight.shape)[-2:]
    is_mlp = weight.linear and len(weight.shape) == 2 and hidden in sides and sides[0] * _LARGE >= hidden
    return Role.MLP if is_mlp or "mlp" in place.block or "feed_forward" in place.block else Role.OTHER


def _shapes(weight: Weight, place: Place, hidden: int) -> tuple[tuple[str, int, int, int], ...]:
    if place.leaf.endswith("bias"):
        return ()
    if len(weight.shape) == 2:
        rows, columns = weight.shape[::-1] if weight.inputs_first else weight.shape
        return ((place.name, rows, columns, 1),)
    if len(weight.shape) != 3 or _EXPERTS not in place.parts:
        return ()
    count, first, second = weight.shape
    outward = place.leaf in _OUTWARD
    swapped = weight.inputs_first or (second != hidden if not outward else first != hidden)
    rows, columns = (second, first) if swapped and hidden in (first, second) else (first, second)
    if "gate_up" not in place.leaf and place.leaf not in ("w13", "w13_weight"):
        return ((place.name, rows, columns, count),)
    stem = place.name.removesuffix(place.leaf)
    return tuple((f"{stem}{name}", rows // 2, columns, count) for name in ("gate_proj", "up_proj"))


def _is_rounded(one: Sorted, rows: int, columns: int) -> bool:
    if one.role not in ROUNDABLE or not one.weight.linear:
        return False
    return rows * _SMALL >= columns or one.place.leaf in QUERIES_KEYS_VALUES


def _split(name: str, role: Role, rows: int, columns: int, outline: Outline, hidden: int) -> Split:
    """As the class's own plan cuts it; where it has none, by which side faces the residual."""
    planned = next((cut for pattern, cut in outline.plan.items() if _inside(pattern) == name), None)
    leaf = name.rpartition(".")[2]
    if planned in _CUTS and role is not Role.ROUTED_EXPERT:
        return _CUTS[planned]
    if role not in ROUNDABLE or leaf.endswith(_LOW_RANK):
        return Split.NONE
    if leaf in _OUTWARD:
        return Split.COLUMNS
    if columns == hidden or leaf.endswith("_b_proj"):
        return Split.ROWS
    return Split.COLUMNS if rows == hidden else Split.NONE


def _inside(pattern: str) -> str:
    """`layers.*.mlp.experts.*.w1` -> `mlp.experts.w1`."""
    return ".".join(part for part in pattern.partition(".*.")[2].split(".") if part != "*")
