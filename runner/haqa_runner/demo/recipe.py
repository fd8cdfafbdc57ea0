"""What the demo model is made from; light to import, so that finding the model already made takes no time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

MARKER = "haqa_demo.json"
"""File in the model's folder that holds the recipe it was made from."""


@dataclass(frozen=True)
class DemoRecipe:
    """Everything the demo model depends on; written into its folder, so that a changed recipe makes a new model."""

    seed: int = 0
    revision: int = 3
    """Raised when the code makes another model of the same numbers."""
    vocabulary: int = 2048
    characters: int = 6_000_000
    hidden: int = 256
    intermediate: int = 768
    layers: int = 4
    heads: int = 4
    growth: int = 6
    weight_outliers: tuple[float, float] = (1 / 64, 0.1)
    """Share and gain, see `outliers.Outliers`: the two together make 4-bit rounding cost some percent of perplexity"""
    activation_outliers: tuple[float, float] = (1 / 16, 24.0)
    steps: int = 600
    batch: int = 8
    sequence: int = 128
    learning_rate: float = 3e-3


def is_made(target: Path, recipe: DemoRecipe) -> bool:
    """Whether `target` holds the model of exactly this recipe."""
    marker = target / MARKER
    if not marker.is_file():
        return False
    wanted = json.loads(json.dumps(asdict(recipe)))
    return bool(json.loads(marker.read_text()).get("recipe") == wanted)
