"""Quantized models by content address: made once, published whole, verified when read.

`open_store` takes a folder (also one on a shared volume) or `s3://bucket/prefix`.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.s3 import S3Place
from haqa_runner.store.artifacts import Artifact, ArtifactKey, ArtifactStore, CalibrationKey
from haqa_runner.store.bucket import S3Store
from haqa_runner.store.local import LocalStore

__all__ = ["Artifact", "ArtifactKey", "ArtifactStore", "CalibrationKey", "LocalStore", "S3Store", "open_store"]


def open_store(where: str, cache: Path) -> ArtifactStore:
    """The store at `where`; `cache` is where artifacts from a bucket are unpacked.

    Raises:
        TrialFailure: QuantizationFailed, for a place that cannot be a store.
    """
    scheme = urlsplit(where).scheme
    try:
        if scheme == "s3":
            return S3Store(S3Place.parse(where), LocalStore(cache / "store"))
        if scheme in ("", "file"):
            return LocalStore(Path(where.removeprefix("file://")))
    except ValueError as error:
        raise TrialFailure(FailureReason.QUANTIZATION_FAILED, f"spec.artifacts: artifact store {error}") from error
    raise TrialFailure(
        FailureReason.QUANTIZATION_FAILED,
        f'spec.artifacts: artifact store "{where}" is of no known form; name a folder or s3://bucket/path',
    )
