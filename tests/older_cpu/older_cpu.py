"""Makes torch answer as on a CPU with fewer instructions: by that vLLM chooses which build of its kernels to load.

`python -m tests.older_cpu.run` puts this file into the engine's environment, where it has to be there before anything
imports torch, in every process, however it is started. Standard library only, for the same reason.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

WIDENING = ("avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx")
"""As in haqa_operator.hardware.instruction_sets, which the engine's environment does not have."""

ASKED = {
    "_is_avx512_supported": "avx512",
    "_is_vnni_supported": "avx512_vnni",
    "_is_avx512_bf16_supported": "avx512_bf16",
    "_is_amx_tile_supported": "amx",
    "_is_amx_fp16_supported": "amx",
}
"""What vLLM 0.32 asks torch.cpu, and the instruction set that the answer stands for."""


def pretend(isa: str) -> None:
    """From now on `torch.cpu`, once it is imported, knows no instruction set wider than `isa`."""
    sys.meta_path.insert(0, _TorchCpu(isa))


def answer_as(cpu: ModuleType, isa: str) -> None:
    """Has `torch.cpu` deny what is wider than `isa`."""
    for name, needed in ASKED.items():
        if WIDENING.index(needed) > WIDENING.index(isa):
            setattr(cpu, name, _no)


def _no() -> bool:
    return False


class _TorchCpu(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports torch.cpu as usual and then changes its answers."""

    def __init__(self, isa: str) -> None:
        self._isa = isa
        self._loader: importlib.abc.Loader | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch.cpu":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        assert self._loader is not None
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert self._loader is not None
        self._loader.exec_module(module)
        answer_as(module, self._isa)
