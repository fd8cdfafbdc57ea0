"""S3-compatible object storage as the runner uses it: one client, one way to name a place, errors as sentences.

Credentials and the endpoint come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, a pod's role...), as every
other S3 tool takes them, so MinIO, Ceph and AWS work alike.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from haqa_contract.failures import cause_of

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
REQUEST_ATTEMPTS = 5
_DENIED = ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")


@dataclass(frozen=True)
class S3Place:
    """`s3://bucket/key`; the key may be a prefix and may be empty."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Place:
        """Raises ValueError with a sentence if `uri` names no bucket."""
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise ValueError(f'"{uri}" names no bucket; write s3://bucket/path')
        return cls(bucket, key.strip("/"))

    def under(self, name: str) -> S3Place:
        return S3Place(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def prefix(self) -> str:
        """The key as a folder: what lies under it starts with this."""
        return f"{self.key}/" if self.key else ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class S3Object:
    """One object of a listing; `name` is relative to the listed prefix."""

    name: str
    size_bytes: int
    etag: str


class S3Client:
    """The few calls that the runner makes, each with time-outs and retries."""

    @cached_property
    def boto(self) -> Any:
        """The boto3 client; made when first needed because importing boto3 takes a third of a second."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"max_attempts": REQUEST_ATTEMPTS, "mode": "standard"},
            ),
        )

    def listing(self, place: S3Place) -> list[S3Object]:
        """Every object under `place`, sorted by name."""
        pages = self.boto.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix)
        found = [
            S3Object(entry["Key"][len(place.prefix) :], int(entry["Size"]), entry["ETag"].strip('"'))
            for page in pages
            for entry in page.get("Contents", ())
            if not entry["Key"].endswith("/")
        ]
        return sorted(found, key=lambda entry: entry.name)


def s3_sentence(place: S3Place, error: BaseException) -> str:
    """What went wrong at `place` and what to do, for any error that boto3 raises."""
    code = _error_code(error)
    if code in ("NoSuchBucket", "NoSuchKey", "404", "NotFound"):
        return f"{place} does not exist ({code}); check bucket and path"
    if code in _DENIED or _http_status(error) in (401, 403):
        return f"{place}: access denied ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the pod's role"
    if code in ("NotImplemented", "501"):
        return f"{place}: this S3 server lacks conditional writes, which keep two runners apart; use a newer one"
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return f"{place}: no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or give the pod a role"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"{place}: the certificate of {endpoint()} is not trusted; name the file of your certificate authority in "
            "AWS_CA_BUNDLE"
        )
    # A server that answers may have a code of its own for a key that it does not know.
    remedy = "check AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID" if code else "check AWS_ENDPOINT_URL"
    return f"{place} could not be read or written through {endpoint()} ({cause_of(error)}); {remedy}"


def endpoint() -> str:
    """Where the bucket is, for sentences."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS's own endpoint"


def is_s3_error(error: BaseException) -> bool:
    """Whether boto3, its transfer manager or its HTTP layer raised this."""
    return type(error).__module__.partition(".")[0] in ("boto3", "botocore", "s3transfer", "urllib3")


def is_precondition_failure(error: BaseException) -> bool:
    """Whether a conditional write lost: somebody else wrote first."""
    return _error_code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def is_missing(error: BaseException) -> bool:
    return _error_code(error) in ("NoSuchKey", "404", "NotFound")


def _error_code(error: BaseException) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _http_status(error: BaseException) -> int | None:
    status: int | None = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _response(error: BaseException) -> dict[str, Any]:
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}
