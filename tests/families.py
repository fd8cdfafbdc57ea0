"""Small models with random weights of the families that people serve: run by the runner's Python.

.venvs/runner/bin/python -m tests.families FAMILY FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.tiny_model import tokenizer_of

_VOCABULARY = 512
_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": _VOCABULARY,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_LATENT: dict[str, Any] = {
    "head_dim": 64,
    "q_lora_rank": 64,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
}
_LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "head_dim": 64,
}
_VISION: dict[str, Any] = {
    "hidden_size": 64,
    "depth": 2,
    "num_heads": 2,
    "intermediate_size": 128,
    "out_hidden_size": 128,
}
_SIGLIP: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "llama", _TEXT),
    "qwen3": ("Qwen3ForCausalLM", "qwen3", _TEXT),
    "qwen3-moe": ("Qwen3MoeForCausalLM", "qwen3_moe", _TEXT | _EXPERTS),
    "qwen3-vl": (
        "Qwen3VLForConditionalGeneration",
        "qwen3_vl",
        {"text_config": _TEXT, "vision_config": _VISION | {"deepstack_visual_indexes": [0]}},
    ),
    "qwen3-next": (
        "Qwen3NextForCausalLM",
        "qwen3_next",
        _TEXT | _EXPERTS | _LINEAR | {"shared_expert_intermediate_size": 64},
    ),
    "qwen3.5": (
        "Qwen3_5ForConditionalGeneration",
        "qwen3_5",
        {"text_config": _TEXT | _LINEAR, "vision_config": _VISION},
    ),
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        "gemma3",
        {
            "text_config": _TEXT | {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64},
            "vision_config": _SIGLIP,
            "mm_tokens_per_image": 4,
        },
    ),
    "gemma4": (
        "Gemma4ForConditionalGeneration",
        "gemma4",
        {
            "text_config": _TEXT
            | {
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 64,
                "global_head_dim": 32,
                "num_kv_shared_layers": 0,
                "hidden_size_per_layer_input": 0,
                "vocab_size_per_layer_input": 512,
            },
            "vision_config": _SIGLIP | {"head_dim": 32, "num_key_value_heads": 2, "default_output_length": 4},
            "audio_config": None,
        },
    ),
    "llama4": (
        "Llama4ForConditionalGeneration",
        "llama4",
        {
            "text_config": _TEXT
            | {
                "intermediate_size_mlp": 256,
                "intermediate_size": 64,
                "num_local_experts": 4,
                "num_experts_per_tok": 1,
                "interleave_moe_layer_step": 1,
                "attention_chunk_size": 128,
            },
            "vision_config": {
                "hidden_size": 64,
                "intermediate_size": 256,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "vision_output_dim": 64,
                "projector_input_dim": 64,
                "projector_output_dim": 64,
            },
        },
    ),
    "mixtral": ("MixtralForCausalLM", "mixtral", _TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek-v3": ("DeepseekV3ForCausalLM", "deepseek_v3", _TEXT | _LATENT),
    "glm-5": (
        "GlmMoeDsaForCausalLM",
        "glm_moe_dsa",
        _TEXT | _LATENT | {"index_n_heads": 4, "index_head_dim": 128, "index_topk": 64},
    ),
    "gpt-oss": (
        "GptOssForCausalLM",
        "gpt_oss",
        _TEXT
        | {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "nemotron-h": (
        "NemotronHForCausalLM",
        "nemotron_h",
        _TEXT
        | {
            "layers_block_type": ["mamba", "moe", "attention", "moe"],
            "num_hidden_layers": 4,
            "mamba_num_heads": 4,
            "mamba_head_dim": 32,
            "n_groups": 2,
            "ssm_state_size": 32,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "moe_shared_expert_intermediate_size": 64,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    "minimax-m2": (
        "MiniMaxM2ForCausalLM",
        "minimax_m2",
        _TEXT
        | {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rotary_dim": 32,
            "intermediate_size": 64,
            "scoring_func": "sigmoid",
            "use_routing_bias": True,
        },
    ),
    "phi3": ("Phi3ForCausalLM", "phi3", {name: value for name, value in _TEXT.items() if name != "head_dim"}),
    "mistral3": (
        "Mistral3ForConditionalGeneration",
        "mistral3",
        {
            "text_config": _TEXT | {"model_type": "mistral"},
            "vision_config": _SIGLIP | {"model_type": "pixtral", "head_dim": 32},
        },
    ),
}
"""Family -> architecture, model type and the fields in which it is small."""


_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|audio_pad|>",
    "boi_token": "<|vision_start|>",
    "eoi_token": "<|vision_end|>",
    "boa_token": "<|audio_start|>",
    "eoa_token": "<|audio_end|>",
}
_MORE_TOKENS = (
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "<|image|>",
    "<|video|>",
    "<|patch|>",
    "<|image_start|>",
    "\n\n\n\n",
)
_IMAGES: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
_QWEN_IMAGES = _IMAGES | {
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 1024, "longest_edge": 65536},
}
_QWEN_FILES: dict[str, dict[str, Any]] = {
    "preprocessor_config.json": _QWEN_IMAGES
    | {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen3VLProcessor"},
    "video_preprocessor_config.json": _QWEN_IMAGES
    | {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"},
}
_SIZE = {"height": 56, "width": 56}
PROCESSORS: dict[str, dict[str, dict[str, Any]]] = {
    "qwen3-vl": _QWEN_FILES,
    "qwen3.5": _QWEN_FILES,
    "gemma3": {
        "preprocessor_config.json": _IMAGES
        | {"image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor", "size": _SIZE},
        "processor_config.json": {"processor_class": "Gemma3Processor", "image_seq_length": 4},
    },
    "llama4": {
        "preprocessor_config.json": _IMAGES
        | {"image_processor_type": "Llama4ImageProcessorFast", "processor_class": "Llama4Processor", "size": _SIZE},
        "processor_config.json": {"processor_class": "Llama4Processor", "patch_size": 14, "pixel_shuffle_ratio": 0.5},
    },
    "mistral3": {
        "preprocessor_config.json": _IMAGES
        | {"image_processor_type": "PixtralImageProcessor", "processor_class": "PixtralProcessor", "patch_size": 14},
        "processor_config.json": {"processor_class": "PixtralProcessor", "patch_size": 14, "spatial_merge_size": 2},
    },
    "gemma4": {
        "processor_config.json": {
            "processor_class": "Gemma4Processor",
            "image_seq_length": 4,
            "image_processor": _IMAGES | {"image_processor_type": "Gemma4ImageProcessor"},
            "video_processor": _IMAGES | {"video_processor_type": "Gemma4VideoProcessor"},
            "feature_extractor": {"feature_extractor_type": "Gemma4AudioFeatureExtractor"},
        },
    },
}
"""How images become numbers: written by hand, since the classes need libraries that are of no use in quantizing."""


def make(family: str, folder: Path, seed: int = 0) -> Path:
    """Writes the family's small model, in bfloat16, with a tokenizer."""
    import torch
    import transformers

    architecture, model_type, fields = FAMILIES[family]
    torch.manual_seed(seed)
    tokenizer = tokenizer_of(_VOCABULARY - len(_TOKENS) - len(_MORE_TOKENS))
    tokenizer.add_special_tokens({"additional_special_tokens": [*_TOKENS.values(), *_MORE_TOKENS]})
    for name, token in _TOKENS.items() if family in PROCESSORS else ():
        tokenizer.init_kwargs[name] = token
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if "text_config" in fields:
        fields = fields | {"text_config": fields["text_config"] | special}
    config = transformers.CONFIG_MAPPING[model_type](**fields, **special)
    model = getattr(transformers, architecture)._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, content in PROCESSORS.get(family, {}).items():
        (folder / name).write_text(json.dumps(content, indent=1))
    return folder


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=[*FAMILIES, "all"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    for family in FAMILIES if arguments.family == "all" else [arguments.family]:
        print(make(family, arguments.folder / family), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
