"""Scores one text with all of a model in memory, with half of it and with none: run by the runner's Python.

    python -m tests.integration.scored_offloaded MODEL SCRATCH

Prints one JSON object: how the model was spread, and the largest difference of a token's log-probability.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from haqa_contract import Evaluation
from haqa_runner.measure.scoring import scoring_windows
from haqa_runner.measure.tokens import load_tokenizer
from haqa_runner.reference import offloaded


def main() -> None:
    model, scratch = map(Path, sys.argv[1:])
    evaluation = Evaluation(samples=4, sequence_length=64)
    windows = scoring_windows(evaluation, load_tokenizer(model), None)
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    spread, scores = [], []
    for most_host_bytes in (10 * size, size // 2, 0):
        with offloaded.loaded(model, scratch, most_host_bytes=most_host_bytes) as loaded:
            spread.append(sorted(map(str, set(getattr(loaded, "hf_device_map", {"": "whole"}).values()))))
            scores.append(offloaded.score(loaded, windows, evaluation.top_logprobs, _silent))
    first = scores[0]
    apart = [float(np.abs(one.actual - first.actual).max()) for one in scores]
    same = [bool((one.ids == first.ids).all()) for one in scores]
    print(json.dumps({"spread": spread, "apart": apart, "same": same}))


def _silent(phase: str, done: float, message: str = "") -> None:
    return


if __name__ == "__main__":
    main()
