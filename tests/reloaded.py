"""How artifacts of small models come back through transformers: a program for the runner's Python.

`python -m tests.reloaded MODEL ARTIFACT [MODEL ARTIFACT ...]` prints one line of JSON: for each artifact the tensors
that were missing or left over, the modules that the model has and the artifact has not (or the other way round), and
how far its logits are from the model's (norm of the difference over the norm).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from haqa_runner.models.architecture.building import loading_class


def compared(model: Path, artifact: Path) -> dict[str, Any]:
    import torch

    loader = loading_class(model, False)
    original = loader.from_pretrained(model, dtype="auto")
    reloaded, told = loader.from_pretrained(artifact, dtype="auto", output_loading_info=True)
    tokens = torch.arange(3, 19).unsqueeze(0)
    with torch.no_grad():
        one, other = (each(input_ids=tokens).logits.float() for each in (original, reloaded))
    names = [{name for name, _ in each.named_modules()} for each in (original, reloaded)]
    return {
        "missing": sorted(told["missing_keys"]),
        "unexpected": sorted(told["unexpected_keys"]),
        "modules": sorted(names[0] ^ names[1]),
        "difference": ((one - other).norm() / one.norm()).item(),
    }


def main() -> None:
    places = [Path(given) for given in sys.argv[1:]]
    pairs = zip(places[::2], places[1::2], strict=True)
    print(json.dumps({str(artifact): compared(model, artifact) for model, artifact in pairs}), flush=True)


if __name__ == "__main__":
    main()
