"""The C compiler that Triton needs on an accelerator.

Triton builds an extension module when the first of its kernels is started (triton/runtime/build.py): with CC, gcc or
clang, and against Python's headers. llm-compressor has Triton's kernels work on tensors of an accelerator. With
CT_ENFORCE_EAGER, which is read when compressed-tensors is imported (compressed_tensors/utils/impl_backend.py), it has
torch's own operations do the same, slower.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

REMEDY = "install gcc, libc6-dev and the headers of this Python (python3-dev)"
EAGER = "CT_ENFORCE_EAGER"

_PROBE = "#include <Python.h>\nint probe(void) { return PY_MAJOR_VERSION; }\n"
_LIMIT_S = 60


@cache
def compiler_problem() -> str | None:
    """Why Triton could not build its module here; None where it can."""
    command = _compiler()
    if command is None:
        return "there is no C compiler (CC, gcc or clang)"
    with TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(_PROBE)
        include = sysconfig.get_paths()["include"]
        build = [command, str(source), "-shared", "-fPIC", f"-I{include}", "-o", str(source.with_suffix(".so"))]
        try:
            done = subprocess.run(build, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the C compiler {command} does not work ({error})"
    return f"the C compiler {command} does not work ({_first_error(done.stderr)})" if done.returncode else None


def _compiler() -> str | None:
    """As Triton looks for it."""
    named = os.environ.get("CC")
    return named if named is not None else shutil.which("gcc") or shutil.which("clang")


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next(
        (line.partition("error: ")[2] for line in lines if "error: " in line), lines[0] if lines else "no error message"
    )
