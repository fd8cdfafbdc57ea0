"""The baseline's scores, kept so that later trials can be compared with them token by token."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.measure.scoring import Scores
from haqa_runner.store.files import FileUnusable, read_file, write_file


def save_reference(where: str, scores: Scores, digest: str) -> None:
    """Writes the scores to a path or an s3:// address, all of them or nothing.

    Raises:
        TrialFailure: the place cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=scores.ids, logprobs=scores.logprobs, actual=scores.actual, digest=np.array(digest))
    try:
        write_file(where, buffer.getvalue())
    except FileUnusable as error:
        raise _unusable("written", str(error)) from error


def load_reference(where: str, digest: str) -> Scores | None:
    """The baseline's scores; None if no baseline has left any.

    Raises:
        TrialFailure: they cannot be read, or were made from other windows than those of `digest`.
    """
    try:
        content = read_file(where)
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            made_from = str(arrays["digest"])
            scores = Scores(arrays["ids"], arrays["logprobs"], arrays["actual"])
    except FileUnusable as error:
        raise _unusable("read", str(error)) from error
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _unusable("read", f"{where}: {cause_of(error)}") from error
    if made_from != digest:
        raise TrialFailure(
            FailureReason.METRICS_MISSING,
            f"the baseline's distributions in {where} were made from other text than this trial's: the evaluation, the "
            "dataset's content or the tokenizer has changed since; remove that file and measure the baseline again",
        )
    return scores


def _unusable(what: str, why: str) -> TrialFailure:
    return TrialFailure(
        FailureReason.METRICS_MISSING,
        f"the baseline's distributions cannot be {what}: {why}; check the store's space and permissions",
    )
