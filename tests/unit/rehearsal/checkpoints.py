"""The rehearsal's model in each format that it can be made in, for tests that start no cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.cluster.rehearsal import quantizing
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.cluster.rehearsal.rig import write_model

RECIPES = {
    "FP8_DYNAMIC": ("QuantizationModifier",),
    "W8A8": ("SmoothQuantModifier", "GPTQModifier"),
    "W4A16": ("GPTQModifier",),
}


def checkpoints(folder: Path) -> dict[str, Checkpoint]:
    """By preset; BF16 is the model itself."""
    model = folder / "BF16"
    write_model(model)
    for preset, modifiers in RECIPES.items():
        plans = [_plan(preset, modifier) for modifier in modifiers]
        quantizing.compress(quantizing.job(model, plans), folder / preset, None)
    return {name: Checkpoint.read(folder / name) for name in ("BF16", *RECIPES)}


def _plan(preset: str, modifier: str) -> SimpleNamespace:
    rounds = None if modifier == "SmoothQuantModifier" else preset
    return SimpleNamespace(preset=rounds, group_size=None, modifier=modifier, targets=("Linear",), ignore=("lm_head",))
