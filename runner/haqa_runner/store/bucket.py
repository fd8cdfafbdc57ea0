"""Artifacts in an S3-compatible bucket, unpacked and verified into a local store.

Layout:
    artifacts/<digest>/manifest.json    written last and at once: without it there is no artifact
    artifacts/<digest>/<upload>/…       the files of one upload, never overwritten; the manifest names the upload
    leases/<digest>.json                held by whoever makes <digest>
    damaged/<digest>.<token>.json       manifests of artifacts that failed verification
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.checksums import sha256_of
from haqa_runner.progress import Phases, ProgressSink, no_progress
from haqa_runner.s3 import S3Client, S3Place, endpoint, is_missing, is_precondition_failure, is_s3_error, s3_sentence
from haqa_runner.store.artifacts import DEFAULT_WAIT_S, Artifact, ArtifactKey, ArtifactStore, Build
from haqa_runner.store.leases import Lease, LeaseTiming, leased
from haqa_runner.store.local import LocalStore
from haqa_runner.store.manifest import MANIFEST, Manifest

_OTHER = '"00000000000000000000000000000000"'
"""ETag that no object has."""

log = logging.getLogger(__name__)


class _Publication(BaseModel):
    """What manifest.json holds in a bucket."""

    model_config = ConfigDict(frozen=True)

    upload: str
    manifest: Manifest


class _DamagedUpload(Exception):
    """What was downloaded is not what was published."""


class S3Store(ArtifactStore):
    """A store under `place`; `local` is where its artifacts are unpacked, and may be shared and may be lost."""

    def __init__(
        self, place: S3Place, local: LocalStore, *, client: S3Client | None = None, timing: LeaseTiming | None = None
    ) -> None:
        self._place = place
        self._local = local
        self._client = client or S3Client()
        self._timing = timing or LeaseTiming()

    def check(self) -> None:
        probe = self._place.under(f"leases/check-{secrets.token_hex(8)}.json")
        with self._sentences():
            # Conditional, as leases are: there are servers that cannot do that, and some that only say they can.
            try:
                self._write_probe(probe, IfNoneMatch="*")
                again = {"If-None-Match": {"IfNoneMatch": "*"}, "If-Match": {"IfMatch": _OTHER}}
                ignored = [name for name, condition in again.items() if self._write_probe(probe, **condition)]
            finally:
                self._client.boto.delete_object(Bucket=probe.bucket, Key=probe.key)
        if ignored:
            raise TrialFailure(
                FailureReason.MODEL_FETCH,
                f"spec.artifacts: artifact store {self._place}: the S3 server at {endpoint()} ignores "
                f"{' and '.join(ignored)}, which keep two runners from making the same artifact at once; use another "
                "server or a newer release, or a claim (pvc)",
            )

    def _write_probe(self, probe: S3Place, **condition: str) -> bool:
        """Whether it was written, in spite of a condition that does not hold."""
        try:
            self._client.boto.put_object(Bucket=probe.bucket, Key=probe.key, Body=b"{}", **condition)
        except Exception as error:
            if is_precondition_failure(error):
                return False
            raise
        return True

    def find(self, key: ArtifactKey, *, thorough: bool = False) -> Artifact | None:
        """As in `ArtifactStore`; downloads what the bucket has and this machine has not."""
        with self._sentences():
            publication = self._published(key.digest)
            if publication is None:
                return None
            try:
                return self._unpacked(key, publication, Phases(), no_progress, DEFAULT_WAIT_S, thorough=thorough)
            except _DamagedUpload:
                return None

    def obtain(
        self,
        key: ArtifactKey,
        build: Build,
        *,
        estimate_bytes: int,
        phases: Phases,
        progress: ProgressSink = no_progress,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> Artifact:
        def waiting(holder: str, share: float) -> None:
            progress("quantize", 0.0, f"waiting for {holder}, which makes the same artifact")

        with self._sentences():
            found = self._intact(key, phases, progress, wait_s)
            while found is None:
                with leased(
                    self._client,
                    self._place.under(f"leases/{key.digest}.json"),
                    limit_s=wait_s,
                    waiting=waiting,
                    what=f"artifact {key.digest[:12]}",
                    timing=self._timing,
                    wanted=lambda: self._published(key.digest) is None,
                ) as lease:
                    found = self._intact(key, phases, progress, wait_s)
                    if found is None and lease is not None:
                        found = self._local.obtain(
                            key, build, estimate_bytes=estimate_bytes, phases=phases, progress=progress, wait_s=wait_s
                        )
                        with phases.measure("publish"):
                            self._upload(found, lease, progress)
            return found

    def fetch(self, digest: str, phases: Phases, progress: ProgressSink = no_progress) -> Artifact:
        with self._sentences():
            publication = self._published(digest)
            if publication is None:
                raise TrialFailure(
                    FailureReason.MODEL_FETCH,
                    f"artifact {digest} is not in {self._place}; tune again to make it anew",
                )
            try:
                return self._unpacked(publication.manifest.key, publication, phases, progress, DEFAULT_WAIT_S)
            except _DamagedUpload as error:
                raise TrialFailure(
                    FailureReason.MODEL_FETCH,
                    f"artifact {digest} in {self._place} is damaged ({error}); tune again to make it anew",
                ) from error

    def _intact(self, key: ArtifactKey, phases: Phases, progress: ProgressSink, wait_s: float) -> Artifact | None:
        """The published artifact, unpacked; a damaged one is set aside so that it is made anew."""
        publication = self._published(key.digest)
        if publication is None:
            return None
        try:
            return self._unpacked(key, publication, phases, progress, wait_s)
        except _DamagedUpload as error:
            self._set_aside(key.digest, publication, str(error))
            return None

    def _published(self, digest: str) -> _Publication | None:
        content = self._read(self._artifact(digest).under(MANIFEST))
        if content is None:
            return None
        try:
            publication = _Publication.model_validate_json(content)
            Manifest.read(publication.manifest.to_bytes(), digest)
        except (ValidationError, ValueError):
            log.warning("artifact %s has a damaged manifest in %s; made anew", digest[:12], self._place)
            return None
        return publication

    def _unpacked(
        self,
        key: ArtifactKey,
        publication: _Publication,
        phases: Phases,
        progress: ProgressSink,
        wait_s: float,
        *,
        thorough: bool = False,
    ) -> Artifact:
        here = self._local.find(key, thorough=thorough)
        if here is not None:
            return here
        manifest = publication.manifest
        with phases.measure("fetch"):
            artifact = self._local.obtain(
                key,
                lambda folder: self._download(publication, folder, progress),
                estimate_bytes=manifest.size_bytes,
                phases=Phases(),
                progress=progress,
                wait_s=wait_s,
            )
        return artifact.model_copy(update={"reused": True})

    def _download(self, publication: _Publication, folder: Path, progress: ProgressSink) -> None:
        manifest = publication.manifest
        count = _counter("fetch", manifest.size_bytes, f"downloading artifact {manifest.digest[:12]}", progress)
        upload = self._artifact(manifest.digest).under(publication.upload)
        for name, entry in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            place = upload.under(name)
            try:
                self._client.boto.download_file(place.bucket, place.key, str(target), Callback=count)
            except Exception as error:
                if is_missing(error):
                    raise _DamagedUpload(f"{name} is missing") from error
                raise
            if target.stat().st_size != entry.size_bytes:
                raise _DamagedUpload(f"{name} has {target.stat().st_size} bytes instead of {entry.size_bytes}")
        flaw = manifest.flaw(folder, sha256_of)
        if flaw is not None:
            raise _DamagedUpload(flaw)

    def _upload(self, artifact: Artifact, lease: Lease, progress: ProgressSink) -> None:
        """All files under a new name, then the manifest; whoever lost the lease meanwhile leaves the manifest alone."""
        manifest = self._local.manifest(artifact.digest)
        home = self._artifact(artifact.digest)
        leftovers = self._client.listing(home)
        upload = f"upload-{secrets.token_hex(8)}"
        count = _counter("publish", manifest.size_bytes, f"uploading artifact {artifact.digest[:12]}", progress)
        for name in manifest.files:
            place = home.under(upload).under(name)
            self._client.boto.upload_file(str(artifact.path / name), place.bucket, place.key, Callback=count)
        if lease.lost:
            log.warning("artifact %s: another runner took over while this one uploaded", artifact.digest[:12])
            return
        publication = _Publication(upload=upload, manifest=manifest)
        place = home.under(MANIFEST)
        self._client.boto.put_object(
            Bucket=place.bucket, Key=place.key, Body=publication.model_dump_json(indent=1).encode()
        )
        # What lay here before belongs to writers that died, or to an artifact that was damaged.
        for leftover in leftovers:
            if leftover.name != MANIFEST:
                self._client.boto.delete_object(Bucket=home.bucket, Key=home.under(leftover.name).key)
        progress("publish", 1.0, f"artifact {artifact.digest[:12]} published")

    def _set_aside(self, digest: str, publication: _Publication, flaw: str) -> None:
        damaged = self._place.under(f"damaged/{digest}.{secrets.token_hex(4)}.json")
        log.warning("artifact %s in %s is damaged (%s): set aside, made anew", digest[:12], self._place, flaw)
        self._client.boto.put_object(
            Bucket=damaged.bucket, Key=damaged.key, Body=publication.model_dump_json(indent=1).encode()
        )
        manifest = self._artifact(digest).under(MANIFEST)
        current = self._published(digest)
        if current is not None and current.upload == publication.upload:
            self._client.boto.delete_object(Bucket=manifest.bucket, Key=manifest.key)

    def _read(self, place: S3Place) -> bytes | None:
        try:
            answer: Any = self._client.boto.get_object(Bucket=place.bucket, Key=place.key)
            content: bytes = answer["Body"].read()
        except Exception as error:
            if is_missing(error):
                return None
            raise
        return content

    def _artifact(self, digest: str) -> S3Place:
        return self._place.under(f"artifacts/{digest}")

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_s3_error(error):
                # Of a place and not of a configuration: the network, or whoever owns the bucket, may mend it.
                raise TrialFailure(
                    FailureReason.MODEL_FETCH, f"spec.artifacts: artifact store {s3_sentence(self._place, error)}"
                ) from error
            raise


def _counter(phase: str, total: int, message: str, progress: ProgressSink) -> Callable[[int], None]:
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount
        progress(phase, min(0.99, done / max(1, total)), message)

    return count
