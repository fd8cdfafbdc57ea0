"""Single files beside a store's artifacts: the baseline's distributions, the reports of trials.

`where` is a path or an s3:// address, as a request names it.
"""

from __future__ import annotations

from pathlib import Path

from haqa_contract.failures import cause_of
from haqa_runner.durable import write_atomically
from haqa_runner.s3 import S3Client, S3Place, is_missing, is_s3_error, s3_sentence

_S3 = "s3://"


class FileUnusable(Exception):
    """A file of the store cannot be read or written; the message says which, and why."""


def write_file(where: str, content: bytes) -> None:
    """Replaces the file: a reader sees the old one or the new one. Raises FileUnusable."""
    try:
        if where.startswith(_S3):
            place = S3Place.parse(where)
            S3Client().boto.put_object(Bucket=place.bucket, Key=place.key, Body=content)
        else:
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(where), content)
    except Exception as error:
        raise _unusable(where, error) from error


def read_file(where: str) -> bytes | None:
    """The file's content; None if there is none. Raises FileUnusable."""
    try:
        if not where.startswith(_S3):
            return Path(where).read_bytes()
        place = S3Place.parse(where)
        content: bytes = S3Client().boto.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
    except Exception as error:
        if isinstance(error, FileNotFoundError) or is_missing(error):
            return None
        raise _unusable(where, error) from error
    return content


def _unusable(where: str, error: Exception) -> FileUnusable:
    named = s3_sentence(S3Place.parse(where), error) if is_s3_error(error) else f"{where}: {cause_of(error)}"
    return FileUnusable(named)
