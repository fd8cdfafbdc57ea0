"""How much host memory quantizing takes, against the size of the model: random Llamas of several sizes, made here.

    .venvs/runner/bin/python -m benchmarks.quantize_memory --parameters 0.25 0.5 1 2

Each size is quantized in a process of its own, by plain rounding and by GPTQ, as a trial does it; the peak is the
process' largest resident memory (VmHWM) since the imports, of which the line says how much there was to begin with.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from haqa_contract import Calibration, Configuration
from haqa_runner.models.facts import model_facts
from haqa_runner.quantize.machine import peak_rss_bytes, reset_peak_rss
from haqa_runner.quantize.recipes import recipe

_GIB = 2**30
_CONFIGURATIONS = (("W8A8-INT8", "rtn"), ("W4A16", "rtn"), ("W4A16", "gptq"))
_LAYERS = 16
_VOCABULARY = 32000


def make_model(folder: Path, parameters: float) -> None:
    """A Llama with about so many parameters, random, in bfloat16, with the vocabulary of 32,000 that Llama 2 has."""
    import torch
    from tests.tiny_model import tokenizer_of
    from transformers import LlamaConfig, LlamaForCausalLM

    width = _width(parameters)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=_LAYERS,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=_VOCABULARY,
        max_position_embeddings=2048,
    )
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="1GB")
    tokenizer_of(1024).save_pretrained(folder)


def _width(parameters: float) -> int:
    """Of the layers: 16 widths^2 each (four of attention, twelve of the MLP), and two tables."""
    width = 256
    while _LAYERS * 16 * width**2 + 2 * _VOCABULARY * width < parameters:
        width += 256
    return width


def quantize(model: Path, folder: Path, scheme: str, algorithm: str, told: Any) -> None:
    """Runs in a process of its own; puts memory before and at the peak, and seconds, into `told`."""
    from haqa_runner.datasets import load_texts
    from haqa_runner.quantize import compressor

    calibration = Calibration(samples=32, sequence_length=256)
    configuration = Configuration.of(scheme, algorithm)
    texts = load_texts(calibration.dataset, limit=2048, seed=0) if configuration.calibrated else []
    plans = recipe(configuration, model_facts(model, str(model)), accelerator=False)
    reset_peak_rss()
    before, began = peak_rss_bytes(), time.monotonic()
    compressor.compress(compressor.Job(model, plans, calibration, texts), folder, lambda *_: None)
    told.put((before, peak_rss_bytes(), time.monotonic() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parameters", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="in billions")
    parser.add_argument("--rounding", action="store_true", help="leave out GPTQ, which takes minutes a billion")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each run")
    arguments = parser.parse_args()
    for billions in arguments.parameters:
        with tempfile.TemporaryDirectory(prefix="haqa-memory-") as place:
            _measure(Path(place), billions, arguments)


def _measure(place: Path, billions: float, arguments: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    model = place / "model"
    maker = context.Process(target=make_model, args=(model, billions * 1e9))
    maker.start()
    maker.join()
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    for scheme, algorithm in _CONFIGURATIONS:
        if arguments.rounding and algorithm != "rtn":
            continue
        told = context.Queue()
        target = place / f"{scheme}-{algorithm}"
        process = context.Process(target=quantize, args=(model, target, scheme, algorithm, told))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{scheme}/{algorithm} of {billions} billion parameters ended with {process.exitcode}")
        before, peak, seconds = told.get()
        shutil.rmtree(target)
        found = {
            "weights_gib": weights / _GIB,
            "configuration": f"{scheme}/{algorithm}",
            "before_gib": before / _GIB,
            "peak_gib": peak / _GIB,
            "times_weights": (peak - before) / weights,
            "seconds": seconds,
        }
        if arguments.json:
            print(json.dumps(found), flush=True)
        else:
            print(
                f"{found['configuration']:16} {weights / _GIB:6.2f} GiB of weights: peak {peak / _GIB:6.2f} GiB, of it "
                f"{before / _GIB:.2f} before; {found['times_weights']:.2f} times the weights, {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
