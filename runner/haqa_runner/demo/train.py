"""Trains the demo model: a small Llama that has really learnt something, in minutes, on two cores, with no download.

The text is the Python standard library's sources, which every machine with Python has. Held-out files (see
`haqa_runner.datasets`) never enter training, so perplexity on them shows what quantization costs.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from haqa_runner.datasets import load_texts
from haqa_runner.demo.growth import grow
from haqa_runner.demo.outliers import Outliers, add_outliers
from haqa_runner.demo.recipe import MARKER, DemoRecipe

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '# ' + message['role'] + '\n' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '# assistant\n' }}{% endif %}"
)


Progress = Callable[[float, str], None]


def make_demo_model(target: Path, recipe: DemoRecipe, progress: Progress) -> None:
    """Trains, grows and saves the model to `target`; the folder appears complete or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    texts = load_texts("builtin://python-stdlib/train", seed=recipe.seed)
    progress(0.0, "training the tokenizer")
    text = "\n".join(texts)[: recipe.characters]
    tokenizer = train_tokenizer(text.splitlines(keepends=True), recipe.vocabulary)
    tokens = torch.tensor(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
    model, loss = train(tokens, recipe, tokenizer, progress)
    generator = torch.Generator().manual_seed(recipe.seed)
    for share, gain in (recipe.weight_outliers, recipe.activation_outliers):
        add_outliers(model, Outliers(share, gain), generator)
    progress(0.97, f"growing to {recipe.growth} times the width")
    wide = grow(model, recipe.growth)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        folder = Path(temporary) / "model"
        wide.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        facts = {"recipe": asdict(recipe), "parameters": wide.num_parameters(), "training_perplexity": math.exp(loss)}
        (folder / MARKER).write_text(json.dumps(facts, indent=2) + "\n")
        for file in folder.iterdir():
            # Weights are written for their owner alone; in a cluster a pod's user reads them.
            file.chmod(0o644)
        folder.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
    progress(1.0, f"{wide.num_parameters() / 1e6:.0f} M parameters in {target}")


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text has tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106, a token of text
        eos_token="</s>",  # noqa: S106
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )


def train(
    tokens: torch.Tensor, recipe: DemoRecipe, tokenizer: PreTrainedTokenizerFast, progress: Progress
) -> tuple[LlamaForCausalLM, float]:
    """Trains the narrow model; also returns the mean loss (nats per token) of the last 50 steps."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.05
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    losses: list[float] = []
    for step in range(recipe.steps):
        starts = torch.randint(len(tokens) - recipe.sequence, (recipe.batch,), generator=generator)
        batch = torch.stack([tokens[start : start + recipe.sequence] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
        if step % 10 == 9:
            recent = sum(losses[-50:]) / len(losses[-50:])
            progress(0.05 + 0.9 * (step + 1) / recipe.steps, f"step {step + 1}/{recipe.steps}, loss {recent:.2f}")
    return model, sum(losses[-50:]) / len(losses[-50:])
