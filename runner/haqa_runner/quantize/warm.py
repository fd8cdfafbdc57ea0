"""Imports `compressor`, in two thirds of the time and so that it gets along with neighbours.

Nearly all of a small model's quantization is importing. transformers and requests look for optional packages and import
them for object detection losses, assisted generation and guessing encodings; nothing here needs those. A process that
shall be forked into this step imports this module and does not pay again.

OpenMP's threads wait by spinning unless they are told otherwise when the library loads. GPTQ is tens of thousands of
small operations; with a neighbour on one of two cores each of them waited for a whole time slice, and the same work
took 36 s instead of 4.5 s.

On an accelerator without a C compiler, Triton's kernels cannot be used; that too is decided while importing.
"""

from __future__ import annotations

from haqa_runner.quantize.compiler import EAGER, compiler_problem
from haqa_runner.quantize.importing import environment_defaults, pretended_missing
from haqa_runner.quantize.machine import has_device_file

_eager = {EAGER: "1"} if has_device_file() and compiler_problem() else {}

with pretended_missing(("sklearn", "scipy", "chardet")), environment_defaults(OMP_WAIT_POLICY="PASSIVE", **_eager):
    from haqa_runner.quantize import compressor

__all__ = ["compressor"]
