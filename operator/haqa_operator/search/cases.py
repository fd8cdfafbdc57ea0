"""Which configurations cannot work, known before a machine is taken: pure policies, tried in order.

Each policy looks at a case and answers with a violation or None; the first violation is the reason why a configuration
is left out (the shape of cert-manager's issuing policies). A policy that lacks what it needs to know (no model profile,
no memory size) lets the configuration pass: its trial finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from haqa_contract import Configuration, Scalar, Workload
from haqa_operator.api.tuning import MAX_MODEL_LEN
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.launch import tensor_parallel_size
from haqa_operator.serving.model_length import AUTO, MaxModelLen
from haqa_operator.serving.versions import Version


@dataclass(frozen=True)
class Case:
    """One configuration of one model on one kind of machine.

    Attributes:
        model: None where the model's config could not be read.
        env: Environment that the pool gives the engine; `VLLM_CPU_KVCACHE_SPACE` counts.
        max_model_len: What the engine gets where the configuration has no `max-model-len`.
    """

    accelerator: Accelerator
    model: ModelProfile | None
    configuration: Configuration
    workload: Workload
    engine_version: Version
    env: Mapping[str, str] = field(default_factory=dict)
    max_model_len: MaxModelLen = AUTO

    @cached_property
    def settings(self) -> Mapping[str, Scalar]:
        return self.configuration.settings

    def setting(self, name: str) -> Scalar | None:
        """An engine setting by command-line name, or None where the engine's default holds."""
        return self.settings.get(name)

    def number(self, name: str) -> float | None:
        """The same for a setting that is a number; texts like `auto` and `16k` are the engine's own business."""
        value = self.setting(name)
        return None if isinstance(value, (bool, str)) else value

    @cached_property
    def worked_out(self) -> dict[object, Any]:
        """What a function has worked out of the case, by the function: several policies ask for the same."""
        return {}

    @property
    def kv_cache_dtype(self) -> str:
        return str(self.setting("kv-cache-dtype") or "auto")

    @property
    def request_tokens(self) -> int:
        """Tokens of one request, prompt and reply."""
        return self.workload.input_tokens + self.workload.output_tokens

    @property
    def model_len(self) -> MaxModelLen:
        """`max-model-len` as the engine gets it."""
        if self.setting(MAX_MODEL_LEN) is None:
            return self.max_model_len
        own = self.number(MAX_MODEL_LEN)
        return int(own) if own is not None and own > 0 else AUTO

    @property
    def sequence_limit(self) -> int:
        """Tokens of the sequence that the KV cache has to hold: fewer and the engine does not start, or, where it fits
        the length to the memory itself, does not take the workload's requests."""
        return self.request_tokens if self.model_len == AUTO else self.planned_limit

    @property
    def planned_limit(self) -> int:
        """Tokens of the longest sequence as the engine plans before it knows what its memory holds."""
        length = self.model_len
        if isinstance(length, int):
            return length
        return (self.model.facts.max_positions if self.model else None) or self.request_tokens

    @cached_property
    def tensor_parallel(self) -> int:
        """Accelerators that share each layer.

        Raises:
            LaunchError: the parallel sizes do not fit the replica.
        """
        if self.accelerator.is_cpu:
            return int(self.number("tensor-parallel-size") or 1)
        return tensor_parallel_size(self.settings, self.accelerator.count)


@dataclass(frozen=True)
class Violation:
    """Why a configuration is left out.

    Attributes:
        reason: One sentence with the numbers.
        parameters: Names of the configuration's parameters that cause it; configurations that have the same values
            there and the same reason are left out together.
    """

    reason: str
    parameters: tuple[str, ...]


Policy = Callable[[Case], Violation | None]


def first_violation(case: Case, policies: Iterable[Policy]) -> Violation | None:
    """The first violation in the order of the policies."""
    return next((violation for policy in policies if (violation := policy(case)) is not None), None)
