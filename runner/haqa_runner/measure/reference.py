"""The baseline's scores, kept so that later trials can be compared with them token by token."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from haqa_runner.contract import FailureReason
from haqa_runner.durable import write_atomically
from haqa_runner.failures import TrialFailure, cause_of
from haqa_runner.measure.scoring import Scores
from haqa_runner.s3 import S3Client, S3Place, is_missing, is_s3_error, s3_sentence

_S3 = "s3://"


def save_reference(where: str, scores: Scores, digest: str) -> None:
    """Writes the scores to a path or an s3:// address, all of them or nothing.

    Raises:
        TrialFailure: the place cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=scores.ids, logprobs=scores.logprobs, actual=scores.actual, digest=np.array(digest))
    try:
        if where.startswith(_S3):
            place = S3Place.parse(where)
            S3Client().boto.put_object(Bucket=place.bucket, Key=place.key, Body=buffer.getvalue())
        else:
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(where), buffer.getvalue())
    except Exception as error:
        raise _unusable(where, "written", error) from error


def load_reference(where: str, digest: str) -> Scores | None:
    """The baseline's scores; None if no baseline has left any.

    Raises:
        TrialFailure: they cannot be read, or were made from other windows than those of `digest`.
    """
    try:
        content = _read(where)
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            made_from = str(arrays["digest"])
            scores = Scores(arrays["ids"], arrays["logprobs"], arrays["actual"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _unusable(where, "read", error) from error
    if made_from != digest:
        raise TrialFailure(
            FailureReason.METRICS_MISSING,
            f"the baseline's distributions in {where} were made from other text than this trial's: the evaluation, the "
            "dataset's content or the tokenizer has changed since; remove that file and measure the baseline again",
        )
    return scores


def _read(where: str) -> bytes | None:
    if not where.startswith(_S3):
        path = Path(where)
        return path.read_bytes() if path.is_file() else None
    place = S3Place.parse(where)
    try:
        content: bytes = S3Client().boto.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
    except Exception as error:
        if is_missing(error):
            return None
        raise (_unusable(where, "read", error) if is_s3_error(error) else error) from error
    return content


def _unusable(where: str, what: str, error: Exception) -> TrialFailure:
    words = s3_sentence(S3Place.parse(where), error) if is_s3_error(error) else cause_of(error)
    return TrialFailure(
        FailureReason.METRICS_MISSING,
        f"the baseline's distributions cannot be {what} at {where} ({words}); check the store's space and permissions",
    )
