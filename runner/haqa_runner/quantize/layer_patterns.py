"""Names of layers that guess further tokens, as an artifact's config tells an engine to leave them alone."""

from __future__ import annotations

import re
from collections.abc import Collection

from haqa_runner.models.architecture.weights import is_predictor

_LAYER = re.compile(r"(?:^|\.)(?P<layer>(?:layers|h|blocks|block|layer)\.\d+)\.")


def patterns_of(names: Collection[str], quantized: Collection[str]) -> list[str]:
    """For all modules of the layers that tensors belong to, whatever an engine puts between their names.

    Args:
        quantized: Modules that a pattern must not match; where one does, the tensors' modules are named one by one.
    """
    found: dict[str, None] = {}
    for name in sorted(names):
        pattern = _pattern(name)
        if pattern is None or any(re.match(pattern, module) for module in quantized):
            found[name.removesuffix(".weight")] = None
        else:
            found[f"re:{pattern}"] = None
    return list(found)


def _pattern(name: str) -> str | None:
    for part in name.split("."):
        if is_predictor(part):
            return rf"(.*\.)?{re.escape(part)}\..*"
    layer = _LAYER.search(name)
    return rf"(.*\.)?{re.escape(layer['layer'])}\..*" if layer else None
