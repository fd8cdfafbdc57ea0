"""The step that makes a quantized artifact of a model, or finds it made.

`PRELOAD` is what a process has to import to be forked into this step without paying for imports again.
"""

PRELOAD = ("haqa_runner.quantize.warm",)
