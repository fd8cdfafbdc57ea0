"""HAQA's own text, which every machine has and no user sends."""

from __future__ import annotations

from typing import Final

from haqa_operator.api.tuning import TuningSpec

_SCHEME: Final = "builtin://"


def builtin_text_warning(spec: TuningSpec) -> str | None:
    """One sentence where accuracy is judged, or quantization calibrated, on the built-in text; None where neither is.

    It is there so that everything can be tried without data. What a scheme costs on code of one language is not what it
    costs on what users send.
    """
    uses = {
        "evaluation.dataset": "accuracy is judged",
        "calibration.dataset": "quantization is calibrated",
    }
    named = {"evaluation.dataset": spec.evaluation.dataset, "calibration.dataset": spec.calibration.dataset}
    fields = [field for field, uri in named.items() if uri.startswith(_SCHEME)]
    if not fields:
        return None
    what = " and ".join(uses[field] for field in fields)
    return (
        f"{what} on HAQA's built-in text, sources of Python's standard library, and not on what your users send; set "
        f"{' and '.join(fields)} to text of yours"
    )
