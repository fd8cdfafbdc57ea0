"""Machines, models and workloads of all kinds that default spaces are built for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.search.builders import LLAMA_8B, LLAMA_SMALL, amd, cpu, gaudi, gpu_of, model, nvidia

from haqa_contract import Workload
from haqa_contract.model_facts import KvCache, ModelFacts
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.search.model_profile import ModelProfile

QWEN3_30B_A3B: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
MIMO_7B: dict[str, Any] = LLAMA_8B | {
    "architectures": ["MiMoForCausalLM"],
    "model_type": "mimo",
    "num_hidden_layers": 36,
    "intermediate_size": 11008,
    "vocab_size": 151680,
    "num_nextn_predict_layers": 1,
}
LATENT: dict[str, Any] = LLAMA_8B | {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "vocab_size": 102400,
}
HYBRID = ModelProfile(
    ModelFacts(
        architecture="Qwen3NextForCausalLM",
        model_type="qwen3_next",
        source="class",
        parameters=3_000_000_000,
        layers=48,
        hidden_size=2048,
        vocab_size=151936,
        heads=16,
        kv_heads=2,
        head_dim=256,
        cache=(KvCache(layers=12, numbers=1024),),
        state_numbers=20_000_000,
        max_positions=262144,
        dtype="bfloat16",
    )
)

MODELS: dict[str, ModelProfile | None] = {
    "llama": model(),
    "small": model(LLAMA_SMALL),
    "experts": model(QWEN3_30B_A3B),
    "mtp": model(MIMO_7B),
    "latent": model(LATENT),
    "hybrid": HYBRID,
    "unknown": None,
}
TCMALLOC, OPENMP = "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "/venv/lib/libiomp5.so"
MACHINES: dict[str, Accelerator] = {
    "two cores with AVX2": Accelerator(Vendor.CPU, "EPYC", memory_gib=32, isa="avx2", cores=2),
    "AVX512": cpu("avx512"),
    "AMX": cpu("amx", memory_gib=256),
    "AMX here": replace(cpu("amx", memory_gib=256), preloads=(TCMALLOC, OPENMP)),
    "Arm": cpu("neon"),
    "unknown CPU": cpu(None, memory_gib=None),
    "T4": nvidia("Tesla-T4"),
    "4 x L40S": nvidia("NVIDIA-L40S", 4),
    "H100": nvidia("NVIDIA-H100-80GB-HBM3"),
    "8 x H200": nvidia("NVIDIA-H200", 8),
    "2 x B200": nvidia("NVIDIA-B200", 2),
    "unknown GPU": gpu_of(8, 0),
    "MI210": amd("MI210"),
    "4 x MI300X": Accelerator(Vendor.AMD, "MI300X", 4, memory_gib=192, architecture="gfx942", bandwidth_gb_s=5300),
    "MI355X": amd("MI355X"),
    "Max 1550": Accelerator(Vendor.INTEL, "Data Center GPU Max 1550", 2, memory_gib=128, architecture="xpu"),
    "Gaudi3": gaudi(),
}
WORKLOADS: dict[str, Workload] = {
    "little": Workload(),
    "prompts": Workload(input_tokens=1024, concurrency=(1, 64), dataset="hf://prompts"),
    "much": Workload(input_tokens=2048, output_tokens=256, concurrency=(16, 256, 600)),
}
