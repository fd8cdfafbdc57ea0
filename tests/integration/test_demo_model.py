"""The demo model is as hard to quantize as a large one, computes what it computed before, and is the same twice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PYTHON = os.environ.get("HAQA_RUNNER_PYTHON", str(Path(__file__).parents[2] / ".venvs" / "runner" / "bin" / "python"))

SCRIPT = """
import hashlib, sys
from pathlib import Path
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from haqa_runner.demo.growth import grow
from haqa_runner.demo.outliers import Outliers, add_outliers
from haqa_runner.demo.recipe import DemoRecipe, is_made
from haqa_runner.demo.train import make_demo_model

torch.manual_seed(0)
narrow = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False))
ids = torch.randint(64, (2, 12))
wide = grow(narrow, 3)
assert wide.config.hidden_size == 96 and wide.config.num_attention_heads == 6
torch.testing.assert_close(wide(ids).logits, narrow(ids).logits, atol=1e-5, rtol=1e-4)

before, gains = narrow(ids).logits, narrow.model.layers[0].input_layernorm.weight.clone()
add_outliers(narrow, Outliers(1 / 8, 16.0), torch.Generator().manual_seed(0))
torch.testing.assert_close(narrow(ids).logits, before, atol=1e-5, rtol=1e-4)
assert (narrow.model.layers[0].input_layernorm.weight / gains).max() == 16

recipe = DemoRecipe(hidden=32, intermediate=64, layers=1, heads=2, growth=2, steps=5, vocabulary=300, characters=60_000)
digests = []
for name in ("one", "two"):
    folder = Path(sys.argv[1]) / name
    assert not is_made(folder, recipe)
    make_demo_model(folder, recipe, lambda done, message: None)
    assert is_made(folder, recipe) and not is_made(folder, DemoRecipe(seed=1))
    digests.append(hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())
assert digests[0] == digests[1]
print("same twice")
"""


def test_outliers_and_growth_keep_the_function_and_a_seed_makes_the_same_model(tmp_path: Path) -> None:
    command = [PYTHON, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "same twice" in done.stdout
