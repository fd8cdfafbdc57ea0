"""`fetch_model`: URI -> checked local folder with a digest of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from haqa_contract import FailureReason, ModelSource
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.checksums import ChecksumMemory
from haqa_runner.models.bucket import fetch_from_bucket, look_in_bucket
from haqa_runner.models.checkpoint import ADAPTER_FILES, MODEL_FILES, MODEL_FILES_WITH_CODE, FileSet, check_model
from haqa_runner.models.hub import fetch_from_hub, look_on_hub
from haqa_runner.progress import ProgressSink

PHASE = "fetch"


@dataclass(frozen=True)
class FetchedModel:
    """A model folder on this machine.

    Attributes:
        path: Holds config.json, tokenizer and safetensors weights; not to be written to.
        digest: Says which model this is, wherever it lies: `commit-…`, `sha256-…` or `etags-…`.
        size_bytes: Of the files that make up the model.
    """

    path: Path
    digest: str
    size_bytes: int


def fetch_model(source: ModelSource, cache: Path, progress: ProgressSink) -> FetchedModel:
    """Downloads the model into `cache` if it is not there, checks it and identifies it.

    `file://` and `pvc://` models are used in place. `cache` may be shared and may be emptied at any time in between.

    Raises:
        TrialFailure: ModelFetch, with what is missing or unreachable and the remedy.
    """
    model = _fetched(source, _files_of(source), cache, progress)
    check_model(model.path, source.uri, trust_remote_code=source.trust_remote_code)
    progress(PHASE, 1.0, f"{source.uri} is {model.digest[:19]}")
    return model


@contextmanager
def look_at_model(source: ModelSource, cache: Path, progress: ProgressSink) -> Iterator[tuple[FetchedModel, Path]]:
    """What `fetch_model` would return, and a folder that tells about it while this lasts, with nothing large brought.

    In that folder small files are whole, and weight files of a hub or bucket only their headers (`headers`). A model
    that is used in place is that folder itself.

    Raises:
        TrialFailure: as `fetch_model`.
    """
    scheme = urlsplit(source.uri).scheme
    look = _LOOKS.get(scheme)
    if look is None:
        model = fetch_model(source, cache, progress)
        yield model, model.path
        return
    # Not in the cache: a claim may count holes as what they stand for.
    with TemporaryDirectory(prefix="haqa-look-") as temporary:
        place, files = Path(temporary), _files_of(source)
        progress(PHASE, 0.0, source.uri)
        folder, digest = look(source, files, cache, place, progress)
        check_model(place, source.uri, trust_remote_code=source.trust_remote_code)
        progress(PHASE, 1.0, f"{source.uri} is {digest[:19]}")
        yield FetchedModel(folder, digest, _size_of(place, files)), place


def fetch_adapter(source: ModelSource, cache: Path, progress: ProgressSink) -> FetchedModel:
    """The same for a LoRA adapter; whether it fits the model is `adapters.check_adapter`'s business."""
    adapter = _fetched(source, ADAPTER_FILES, cache, progress)
    progress(PHASE, 1.0, f"{source.uri} is {adapter.digest[:19]}")
    return adapter


def _files_of(source: ModelSource) -> FileSet:
    return MODEL_FILES_WITH_CODE if source.trust_remote_code else MODEL_FILES


def _fetched(source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    fetch = _FETCHERS.get(urlsplit(source.uri).scheme)
    if fetch is None:
        raise _refused(
            source.uri, "no known form; write hf://org/name, file:///path, s3://bucket/path or pvc://claim/path"
        )
    progress(PHASE, 0.0, source.uri)
    return fetch(source, files, cache, progress)


def _fetch_file(source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    return _in_place(Path(_path_of(source.uri)), source, files, cache, progress)


def _fetch_claim(source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    if not source.mount:
        raise _refused(
            source.uri, "the claim is not mounted here; set source.mount to its folder, or name file:///path"
        )
    inside = _path_of(source.uri).partition("/")[2]
    mount = Path(source.mount).resolve()
    folder = (mount / inside).resolve()
    if not folder.is_relative_to(mount):
        raise _refused(source.uri, f"the path leads out of the claim, to {folder}; name a folder inside it")
    return _in_place(folder, source, files, cache, progress)


def _in_place(folder: Path, source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    if not folder.is_absolute():
        raise _refused(source.uri, "the path is not absolute; write file:///the/whole/path")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise _refused(source.uri, f"{folder} {what}; name the folder that holds {files.needed}")
    try:
        return _identified(folder.resolve(), files, cache, progress)
    except OSError as error:
        raise _refused(source.uri, f"{folder} cannot be read ({cause_of(error)}); check its permissions") from error


def _identified(folder: Path, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    found = files.of(folder)
    total = sum(path.stat().st_size for path in found)
    memory = ChecksumMemory(cache / "checksums" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json")
    counted = _counted(total, f"reading {folder.name}", progress)
    identity = hashlib.sha256()
    for path in found:
        identity.update(f"{path.name} {memory.sha256(path, counted=counted)}\n".encode())
    memory.forget_others(found)
    memory.save()
    return FetchedModel(folder, f"sha256-{identity.hexdigest()}", total)


def _fetch_hub(source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    folder, commit = fetch_from_hub(source, files, cache, progress)
    return FetchedModel(folder, _of_commit(commit), _size_of(folder, files))


def _fetch_s3(source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> FetchedModel:
    folder, etags = fetch_from_bucket(source, files, cache, progress)
    return FetchedModel(folder, _of_etags(etags), _size_of(folder, files))


def _look_on_hub(
    source: ModelSource, files: FileSet, cache: Path, place: Path, progress: ProgressSink
) -> tuple[Path, str]:
    folder, commit = look_on_hub(source, files, cache, place, progress)
    return folder, _of_commit(commit)


def _look_in_bucket(
    source: ModelSource, files: FileSet, cache: Path, place: Path, progress: ProgressSink
) -> tuple[Path, str]:
    folder, etags = look_in_bucket(source, files, cache, place, progress)
    return folder, _of_etags(etags)


def _of_commit(commit: str) -> str:
    return f"commit-{commit}"


def _of_etags(etags: str) -> str:
    return f"etags-{etags}"


_FETCHERS: dict[str, Callable[[ModelSource, FileSet, Path, ProgressSink], FetchedModel]] = {
    "file": _fetch_file,
    "pvc": _fetch_claim,
    "hf": _fetch_hub,
    "s3": _fetch_s3,
}

_LOOKS = {"hf": _look_on_hub, "s3": _look_in_bucket}


def _path_of(uri: str) -> str:
    parts = urlsplit(uri)
    return unquote(parts.netloc + parts.path)


def _size_of(folder: Path, files: FileSet) -> int:
    return sum(path.stat().st_size for path in files.of(folder))


def _counted(total: int, message: str, progress: ProgressSink) -> Callable[[int], None]:
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount
        progress(PHASE, min(0.99, done / max(1, total)), message)

    return count


def _refused(uri: str, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.MODEL_FETCH, f"model {uri}: {why}")
