"""Imports `compressor`, in two thirds of the time and so that it gets along with neighbours.

Nearly all of a small model's quantization is importing. transformers and requests look for optional packages and import
them for object detection losses, assisted generation and guessing encodings; nothing here needs those. A process that
shall be forked into this step imports this module (`quantize.PRELOAD`) and does not pay again.

OpenMP's threads wait by spinning unless they are told otherwise when the library loads. GPTQ is tens of thousands of
small operations; with a neighbour on one of two cores each of them waited for a whole time slice, and the same work
took 36 s instead of 4.5 s.
"""

from __future__ import annotations

from haqa_runner.quantize.importing import environment_defaults, pretended_missing

with pretended_missing(("sklearn", "scipy", "chardet")), environment_defaults(OMP_WAIT_POLICY="PASSIVE"):
    from haqa_runner.quantize import compressor

__all__ = ["compressor"]
