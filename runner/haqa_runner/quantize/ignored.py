"""What an artifact's config says is not quantized, under every name that a reader may have for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.nn import Linear


def plain_linears(model: Any) -> list[str]:
    """Names of the Linear layers that are not quantized, as the class has them.

    A checkpoint may have others, and its own are what is saved: `vision_tower.…` for Gemma 3's
    `model.vision_tower.…`, so that transformers would look for scales there.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear) and getattr(module, "quantization_scheme", None) is None
    ]


def leave_unquantized(folder: Path, names: Iterable[str]) -> None:
    """Adds names or patterns (`re:…`) to what the artifact in `folder` says is not quantized."""
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    described = config.get("quantization_config")
    if not isinstance(described, dict):
        return
    described["ignore"] = list(dict.fromkeys([*described.get("ignore", ()), *names]))
    path.write_text(json.dumps(config, indent=2) + "\n")
