"""The longest request that an engine serves: `--max-model-len`, the same in every trial and in the Deployment.

It follows from what users send and never from the benchmark. vLLM's KV cache is paged: room for long requests takes
nothing from short ones, while a request over the limit is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from haqa_contract.engine_log.lines import setting
from haqa_operator.api import Serving, Trial
from haqa_operator.api.tuning import MAX_MODEL_LEN

AUTO: Final = "auto"

MaxModelLen = int | Literal["auto"] | None
"""Tokens of prompt and answer; auto = the model's limit, or as much of it as the memory holds; None = not given, and
then an engine refuses to start whose memory does not hold one request of the model's limit."""

_AUTO_SINCE = (0, 14, 0)
"""vllm-project/vllm#29431"""


def served_length(
    serving: Serving, engine_version: tuple[int, int, int], model_limit: int | None, measured: Sequence[Trial] = ()
) -> MaxModelLen:
    """What the engines of a pool get where the configuration sets nothing.

    Numbers count together only if all were measured with one length. So what the pool's trials have been measured with
    stays, whatever the default is by now; naming a length in the spec starts a run of its own (`tuning.fingerprint`).

    Args:
        model_limit: The longest sequence that the model can take; None where its config does not say. vLLM then assumes
            one, but not with `auto`.
        measured: The pool's trials so far, those that may be compared.
    """
    if serving.max_model_len is not None:
        return serving.max_model_len
    for trial in measured:
        if trial.status.engine_args and MAX_MODEL_LEN not in trial.configuration.settings:
            return _read(setting(trial.status.engine_args, MAX_MODEL_LEN))
    return AUTO if engine_version >= _AUTO_SINCE and model_limit is not None else None


def length_sentence(length: MaxModelLen) -> str:
    """What the length is, for who chooses the configurations but not this."""
    match length:
        case int():
            tokens = f"requests of up to {length} tokens (prompt and answer)"
        case None:
            tokens = "requests as long as the model can take"
        case _:
            tokens = "requests as long as the model can take, or as much of that as the KV cache holds"
    written = "" if length is None else f"{MAX_MODEL_LEN}={length}: "
    return f"{written}{tokens} are served, longer ones than the workload's included"


def outdated_length(length: MaxModelLen) -> str:
    """What a run says that goes on with a length which would not be chosen today."""
    measured = f"with {MAX_MODEL_LEN} {length}" if length is not None else f"without {MAX_MODEL_LEN}"
    refused = ", and its Deployment refuses longer requests" if isinstance(length, int) else ""
    return (
        f"the trials of this run were measured {measured} by an earlier version, and so is the rest of it{refused}; "
        "set spec.serving.maxModelLen to what your users send to measure anew"
    )


def _read(argument: str | None) -> MaxModelLen:
    if argument is None:
        return None
    return int(argument) if argument.isdecimal() else AUTO
