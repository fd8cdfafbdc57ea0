"""vLLM's arguments, as far as the rehearsal's engine obeys them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.cluster.rehearsal.devices import Device

_LARGE_GIB, _HUGE_GIB = 70, 160
"""Memory from which vLLM takes larger batches (vllm/engine/arg_utils.py, `get_batch_defaults`)."""


@dataclass(frozen=True)
class Arguments:
    """By vLLM's names.

    Attributes:
        given: Every argument that was passed, as text; a switch is "".
        env: The engine's environment.
    """

    given: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, words: Sequence[str], env: Mapping[str, str] | None = None) -> Arguments:
        """From `--name=value` and `--name`."""
        return cls(dict(word.removeprefix("--").partition("=")[::2] for word in words), env or {})

    @property
    def model(self) -> str:
        return self.given["model"]

    @property
    def served_name(self) -> str:
        return self.given["served-model-name"]

    @property
    def tensor(self) -> int:
        return self._number("tensor-parallel-size", 1)

    @property
    def pipeline(self) -> int:
        return self._number("pipeline-parallel-size", 1)

    @property
    def data(self) -> int:
        return self._number("data-parallel-size", 1)

    @property
    def accelerators(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def utilization(self) -> float:
        return float(self.given.get("gpu-memory-utilization", 0.92))

    @property
    def cache_dtype(self) -> str:
        return self.given.get("kv-cache-dtype", "auto")

    @property
    def cache_bytes(self) -> int | None:
        """The KV cache's size on each accelerator, where it is set outright."""
        return int(self.given["kv-cache-memory-bytes"]) if "kv-cache-memory-bytes" in self.given else None

    @property
    def max_model_len(self) -> int | None:
        """None: as much as the memory holds."""
        text = self.given.get("max-model-len", "auto")
        return None if text in ("auto", "-1") else int(text)

    @property
    def eager(self) -> bool:
        return "enforce-eager" in self.given

    @property
    def graphs(self) -> str:
        """What is captured: FULL_AND_PIECEWISE, or less."""
        if self.eager:
            return "NONE"
        config = json.loads(self.given.get("compilation-config", "{}"))
        by_level = "PIECEWISE" if self.given.get("optimization-level") == "1" else "FULL_AND_PIECEWISE"
        return str(config.get("cudagraph_mode", by_level))

    @property
    def linear_backend(self) -> str:
        return self.given.get("linear-backend", "auto")

    @property
    def attention_backend(self) -> str:
        return self.given.get("attention-backend", "")

    @property
    def aiter(self) -> bool:
        """AMD's own kernels."""
        return self.env.get("VLLM_ROCM_USE_AITER", "0").lower() in ("1", "true")

    def without(self, part: str) -> bool:
        """Whether this part of AMD's own kernels is left out."""
        return self.env.get(f"VLLM_ROCM_USE_AITER_{part}", "1").lower() in ("0", "false")

    def batched_tokens(self, device: Device) -> int:
        """Tokens of one step."""
        return self._number("max-num-batched-tokens", self._by_memory(device, 2048, 8192, 16384))

    def sequences(self, device: Device) -> int:
        """Sequences that run at once."""
        wanted = self._number("max-num-seqs", self._by_memory(device, 256, 1024, 1024))
        return min(wanted, self.batched_tokens(device))

    def _by_memory(self, device: Device, small: int, large: int, huge: int) -> int:
        own = small if device.memory_gib < _LARGE_GIB else large if device.memory_gib < _HUGE_GIB else huge
        return 2 * own if self.given.get("performance-mode") == "throughput" else own

    def _number(self, name: str, default: int) -> int:
        return int(self.given.get(name, default))
