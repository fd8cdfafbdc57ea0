"""Which models an engine on this CPU answers with: a program for the serving environment, MODEL... its arguments; one
that begins with `text:` is served without its tower, as an engine does that is allowed no images.

vLLM is imported once; every model gets a fork, because a kernel that is missing may end the process. The last line of
JSON that it prints: model -> null, or the end of what went wrong.
"""

import json
import os
import sys
import traceback

TOKENS = 4
TEXT = "text:"


def main(models: list[str]) -> None:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    import torch
    import vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors
    import vllm.model_executor.models.llama
    import vllm.v1.attention.backends.cpu_attn
    import vllm.v1.engine.llm_engine
    import vllm.v1.worker.cpu_worker  # noqa: F401

    # A process may use AMX only if it has asked before its threads start.
    torch.cpu._init_amx()
    print(json.dumps({model: problem_of(model) for model in models}))


def problem_of(model: str) -> str | None:
    """What keeps a forked process from answering with this model; None where it answers."""
    readable, writable = os.pipe()
    if (child := os.fork()) == 0:
        os.close(readable)
        with os.fdopen(writable, "w") as told:
            told.write(_try(model))
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    return text or (f"ended with {os.waitstatus_to_exitcode(status)}" if status else None)


def _try(model: str) -> str:
    from vllm import LLM, SamplingParams

    path = model.removeprefix(TEXT)
    more = {"limit_mm_per_prompt": {"image": 0}} if model != path else {}
    try:
        llm = LLM(model=path, enforce_eager=True, max_model_len=128, max_num_seqs=2, disable_log_stats=True, **more)
        (answer,) = llm.generate(["def f(x):"], SamplingParams(max_tokens=TOKENS, ignore_eos=True), use_tqdm=False)
        assert len(answer.outputs[0].token_ids) == TOKENS, answer
    except BaseException:
        return traceback.format_exc()[-1500:]
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
