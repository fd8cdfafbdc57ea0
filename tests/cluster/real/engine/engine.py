"""vLLM's API server, as on a CPU without AMX where ONEDNN_MAX_CPU_ISA is below it.

The cap makes an older CPU of this one for oneDNN alone: vLLM 0.32 and torch pick other kernels by what the CPU has, and
those (4-bit weights as INT8, attention in tiles) fail under the cap. So what they ask, torch.cpu, answers as the older
CPU would. Every process of the engine has to run these lines: multiprocessing's spawn imports the main program again,
so that has to stay this file (`alter_sys` of runpy would make it vLLM's own, and the worker would find AMX).
"""

import os
import runpy

import torch.cpu

if os.environ.get("ONEDNN_MAX_CPU_ISA") in ("AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16"):
    torch.cpu._is_amx_tile_supported = lambda: False
    torch.cpu._is_amx_fp16_supported = lambda: False

if __name__ == "__main__":
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
