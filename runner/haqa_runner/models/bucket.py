"""Models from an S3-compatible bucket: downloaded once into the cache, identified by the listing's ETags."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from haqa_contract import FailureReason, ModelSource
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.disk import disk_full, is_disk_full, require_space
from haqa_runner.durable import sync_file, sync_folder
from haqa_runner.locks import exclusive
from haqa_runner.models.checkpoint import WEIGHTS, FileSet
from haqa_runner.models.headers import leave_header, link_files
from haqa_runner.progress import ProgressSink
from haqa_runner.s3 import S3Client, S3Object, S3Place, is_s3_error, s3_sentence

_WAIT_LIMIT_S = 3600.0
"""For another runner on this cache that is downloading the same model."""


def fetch_from_bucket(
    source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink, *, client: S3Client | None = None
) -> tuple[Path, str]:
    """The folder in the cache that holds the model, and the digest of the listing (names, sizes, ETags).

    Raises:
        TrialFailure: ModelFetch.
    """
    with _opened(source, files, cache, client) as bucket:
        if not bucket.folder.is_dir():
            _download_once(bucket, source, progress)
        return bucket.folder, bucket.digest


def look_in_bucket(
    source: ModelSource,
    files: FileSet,
    cache: Path,
    place: Path,
    progress: ProgressSink,
    *,
    client: S3Client | None = None,
) -> tuple[Path, str]:
    """What `fetch_from_bucket` would return; `place` gets what tells about the model.

    Small files are downloaded, of weight files only headers. A model that is in the cache is linked whole.

    Raises:
        TrialFailure: ModelFetch.
    """
    with _opened(source, files, cache, client) as bucket:
        if bucket.folder.is_dir():
            link_files(files.of(bucket.folder), place)
            return bucket.folder, bucket.digest
        for done, entry in enumerate(bucket.objects, start=1):
            if entry.name.endswith(WEIGHTS):
                leave_header(place / entry.name, entry.size_bytes, partial(bucket.beginning, entry.name))
            else:
                bucket.download(entry, place)
            progress("fetch", min(0.99, done / len(bucket.objects)), f"reading headers of {source.uri}")
        return bucket.folder, bucket.digest


@dataclass(frozen=True)
class _Bucket:
    """A model's objects, and where they lie once they are downloaded."""

    client: S3Client
    place: S3Place
    objects: Sequence[S3Object]
    digest: str
    folder: Path

    def beginning(self, name: str, length: int) -> bytes:
        """The first bytes of an object."""
        asked = {"Bucket": self.place.bucket, "Key": self.place.under(name).key, "Range": f"bytes=0-{length - 1}"}
        with closing(self.client.boto.get_object(**asked)["Body"]) as body:
            found: bytes = body.read(length)
        return found

    def download(self, entry: S3Object, folder: Path, count: Callable[[int], None] | None = None) -> Path:
        """Brings an object to a folder; returns where it is."""
        target = folder / entry.name
        key = self.place.under(entry.name).key
        self.client.boto.download_file(self.place.bucket, key, str(target), Callback=count)
        return target


@contextmanager
def _opened(source: ModelSource, files: FileSet, cache: Path, client: S3Client | None) -> Iterator[_Bucket]:
    """The model's listing; what goes wrong inside becomes a sentence."""
    client = client or S3Client()
    try:
        place = S3Place.parse(source.uri)
    except ValueError as error:
        raise _refused(source, str(error)) from error
    try:
        objects = _objects(client, place, source, files)
        digest = hashlib.sha256("\n".join(f"{o.name} {o.size_bytes} {o.etag}" for o in objects).encode()).hexdigest()
        yield _Bucket(client, place, objects, digest, cache / "models" / f"s3-{digest[:32]}")
    except TrialFailure:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(cache, None, f"model {source.uri}", FailureReason.MODEL_FETCH) from error
        if is_s3_error(error):
            raise TrialFailure(FailureReason.MODEL_FETCH, f"model {s3_sentence(place, error)}") from error
        raise _refused(source, f"{cause_of(error)}; check the cache {cache}") from error


def _objects(client: S3Client, place: S3Place, source: ModelSource, files: FileSet) -> Sequence[S3Object]:
    found = client.listing(place)
    objects = [entry for entry in found if files.has(entry.name)]
    if not any(entry.name == files.needed for entry in objects):
        there = f"{len(found)} other objects are" if found else "nothing is"
        raise _refused(source, f"no {files.needed} under {place} ({there} there); name the folder that holds it")
    return objects


def _download_once(bucket: _Bucket, source: ModelSource, progress: ProgressSink) -> None:
    folder = bucket.folder
    lock = folder.parent / f".{folder.name}.lock"

    def waiting(holder: str, share: float) -> None:
        progress("fetch", 0.0, f"waiting for {holder}, which downloads {source.uri}")

    with exclusive(lock, limit_s=_WAIT_LIMIT_S, waiting=waiting, what=f"the download of {source.uri}"):
        # Whoever holds the lock is alone: other temporary folders of this model belong to the dead.
        for leftover in folder.parent.glob(f".{folder.name}.part-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if folder.is_dir():
            return
        needed = sum(entry.size_bytes for entry in bucket.objects)
        require_space(folder.parent, needed, f"model {source.uri}", FailureReason.MODEL_FETCH)
        temporary = folder.with_name(f".{folder.name}.part-{secrets.token_hex(4)}")
        temporary.mkdir()
        try:
            _download(bucket, temporary, source, progress)
            temporary.rename(folder)
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _download(bucket: _Bucket, folder: Path, source: ModelSource, progress: ProgressSink) -> None:
    total = max(1, sum(entry.size_bytes for entry in bucket.objects))
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount
        progress("fetch", min(0.99, done / total), f"downloading {source.uri}")

    for entry in bucket.objects:
        target = bucket.download(entry, folder, count)
        size = target.stat().st_size
        if size != entry.size_bytes:
            raise _refused(
                source, f"{entry.name} arrived with {size} of {entry.size_bytes} bytes; it changed meanwhile, try again"
            )
        sync_file(target)


def _refused(source: ModelSource, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.MODEL_FETCH, f"model {source.uri}: {why}")
