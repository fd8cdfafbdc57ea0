"""Artifacts in a folder, which may be a volume that several nodes share.

Layout:
    artifacts/<digest>/manifest.json, model/    complete artifacts, never changed
    partial/<digest>.<token>/                   being written; renamed when complete
    locks/<digest>.lock                         held by whoever writes <digest>
    damaged/<digest>.<token>/                   failed verification; kept once for a look
    checksums/<digest>.json                     what was verified already (a cache)
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.checksums import ChecksumMemory
from haqa_runner.disk import disk_full, is_disk_full, require_space
from haqa_runner.durable import sync_folder, write_atomically
from haqa_runner.locks import exclusive, free
from haqa_runner.progress import Phases, ProgressSink, no_progress
from haqa_runner.store.artifacts import DEFAULT_WAIT_S, Artifact, ArtifactKey, ArtifactStore, Build
from haqa_runner.store.manifest import MANIFEST, MODEL, Manifest

log = logging.getLogger(__name__)


class LocalStore(ArtifactStore):
    """A store in the folder `root`, made when first written to."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def check(self) -> None:
        probe = self._root / "partial" / f".check.{secrets.token_hex(4)}"
        with self._sentences(0):
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()

    def find(self, key: ArtifactKey, *, thorough: bool = False) -> Artifact | None:
        found = self._inspect(key.digest, thorough=thorough)
        return found if isinstance(found, Artifact) else None

    def fetch(self, digest: str, phases: Phases, progress: ProgressSink = no_progress) -> Artifact:
        found = self._inspect(digest)
        if isinstance(found, Artifact):
            return found
        what = f"is damaged ({found})" if found else "is not there"
        raise TrialFailure(
            FailureReason.MODEL_FETCH,
            f"artifact {digest} in the store {self._root} {what}; tune again to make it anew",
        )

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
        found = self.find(key)
        if found is not None:
            return found

        def waiting(holder: str, share: float) -> None:
            progress("quantize", 0.0, f"waiting for {holder}, which makes the same artifact")

        what = f"artifact {key.digest[:12]}"
        with ExitStack() as stack:
            with self._sentences(estimate_bytes):
                stack.enter_context(exclusive(self._lock(key.digest), limit_s=wait_s, waiting=waiting, what=what))
                found = self._recovered(key.digest)
                if found is not None:
                    return found
                require_space(self._root, estimate_bytes, what, FailureReason.QUANTIZATION_FAILED)
                partial = self._root / "partial" / f"{key.digest}.{secrets.token_hex(4)}"
                stack.callback(shutil.rmtree, partial, ignore_errors=True)
                (partial / MODEL).mkdir(parents=True)
            try:
                build(partial / MODEL)
            except Exception as error:
                if is_disk_full(error) and not isinstance(error, TrialFailure):
                    raise self._unwritable(error, estimate_bytes) from error
                raise
            with self._sentences(estimate_bytes), phases.measure("publish"):
                return self._publish(key, partial, progress)

    def manifest(self, digest: str) -> Manifest:
        """The manifest of an artifact that is there. Raises OSError or ValueError if it is not, or is damaged."""
        return Manifest.read((self._folder(digest) / MANIFEST).read_bytes(), digest)

    def _recovered(self, digest: str) -> Artifact | None:
        """Under the lock: the artifact if somebody made it meanwhile; else what is left of failures is cleared away."""
        found = self._inspect(digest)
        if isinstance(found, Artifact):
            return found
        if found is not None:
            self._set_aside(digest, found)
        self._sweep(digest)
        return None

    def _publish(self, key: ArtifactKey, partial: Path, progress: ProgressSink) -> Artifact:
        manifest = Manifest.of(key, partial / MODEL, _counted(partial / MODEL, progress))
        write_atomically(partial / MANIFEST, manifest.to_bytes())
        folder = self._folder(key.digest)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
        sync_folder(folder.parent)
        progress("publish", 1.0, f"artifact {key.digest[:12]} published")
        return _artifact(manifest, folder, reused=False)

    def _inspect(self, digest: str, *, thorough: bool = False) -> Artifact | str | None:
        """The artifact, or what is wrong with it, or None if there is none."""
        folder = self._folder(digest)
        if not folder.exists():
            return None
        try:
            manifest = self.manifest(digest)
        except (OSError, ValueError) as error:
            return cause_of(error)
        memory = ChecksumMemory(self._root / "checksums" / f"{digest}.json")
        flaw = manifest.flaw(folder / MODEL, lambda path: memory.sha256(path, fresh=thorough))
        if flaw is not None:
            return flaw
        memory.save()
        return _artifact(manifest, folder, reused=True)

    def _set_aside(self, digest: str, flaw: str) -> None:
        damaged = self._root / "damaged"
        damaged.mkdir(exist_ok=True)
        for older in damaged.glob(f"{digest}.*"):
            shutil.rmtree(older, ignore_errors=True)
        target = damaged / f"{digest}.{secrets.token_hex(4)}"
        self._folder(digest).rename(target)
        log.warning("artifact %s is damaged (%s): moved to %s, made anew", digest[:12], flaw, target)

    def _sweep(self, own: str) -> None:
        """Removes what dead writers left: partial folders whose lock nobody holds."""
        for leftover in list((self._root / "partial").glob("*")):
            digest = leftover.name.partition(".")[0]
            if digest == own or free(self._lock(digest)):
                log.info("removing %s, left by a writer that died", leftover)
                shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _sentences(self, needed_bytes: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritable(error, needed_bytes) from error

    def _unwritable(self, error: BaseException, needed_bytes: int) -> TrialFailure:
        if is_disk_full(error):
            return disk_full(self._root, needed_bytes, "the artifact", FailureReason.QUANTIZATION_FAILED)
        return TrialFailure(
            FailureReason.QUANTIZATION_FAILED,
            f"spec.artifacts: artifact store {self._root} cannot be used ({cause_of(error)}); check that it is a "
            "writable folder",
        )

    def _folder(self, digest: str) -> Path:
        return self._root / "artifacts" / digest

    def _lock(self, digest: str) -> Path:
        return self._root / "locks" / f"{digest}.lock"


def _artifact(manifest: Manifest, folder: Path, *, reused: bool) -> Artifact:
    return Artifact(
        digest=manifest.digest,
        path=folder / MODEL,
        size_bytes=manifest.size_bytes,
        reused=reused,
        tool_versions=manifest.key.tool_versions,
    )


def _counted(model: Path, progress: ProgressSink) -> Callable[[int], None]:
    total = max(1, sum(path.stat().st_size for path in model.rglob("*") if path.is_file()))
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount
        progress("publish", min(0.99, done / total), "checksumming")

    return count
