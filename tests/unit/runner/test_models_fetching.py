"""Models that are used where they lie: file:// and pvc://."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.checkpoints import write_checkpoint

from haqa_contract import FailureReason, ModelSource
from haqa_contract.failures import TrialFailure
from haqa_runner import checksums
from haqa_runner.models import fetch_model
from haqa_runner.progress import no_progress


def refusal(source: ModelSource, cache: Path) -> str:
    with pytest.raises(TrialFailure) as raised:
        fetch_model(source, cache, no_progress)
    assert raised.value.reason is FailureReason.MODEL_FETCH
    assert source.uri in raised.value.message
    return raised.value.message


def test_file_model_is_used_in_place(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    model = fetch_model(ModelSource(uri=f"file://{folder}"), tmp_path / "cache", no_progress)
    assert model.path == folder
    assert model.digest.startswith("sha256-")
    assert model.size_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_digest_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    one, other = (write_checkpoint(tmp_path / name) for name in ("one", "other"))
    digests = [
        fetch_model(ModelSource(uri=f"file://{p}"), tmp_path / "cache", no_progress).digest for p in (one, other)
    ]
    assert digests[0] == digests[1]
    (other / "tokenizer.json").write_text('{"version": 2}')
    assert fetch_model(ModelSource(uri=f"file://{other}"), tmp_path / "cache", no_progress).digest != digests[0]


def test_weights_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "model")
    source = ModelSource(uri=f"file://{folder}")
    first = fetch_model(source, tmp_path / "cache", no_progress)
    read: list[Path] = []

    def sha256_of(file: Path, counted: object = None) -> str:
        read.append(file)
        return "f" * 64

    monkeypatch.setattr(checksums, "sha256_of", sha256_of)
    assert fetch_model(source, tmp_path / "cache", no_progress) == first
    assert not read
    os.utime(folder / "model.safetensors")
    fetch_model(source, tmp_path / "cache", no_progress)
    assert read == [folder / "model.safetensors"]


def test_model_is_identified_without_a_writable_cache(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert fetch_model(ModelSource(uri=f"file://{folder}"), tmp_path / "cache", no_progress).digest


def test_progress_ends_at_one(tmp_path: Path) -> None:
    told: list[float] = []
    folder = write_checkpoint(tmp_path / "model")
    fetch_model(
        ModelSource(uri=f"file://{folder}"), tmp_path / "cache", lambda phase, done, message="": told.append(done)
    )
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_claim_is_resolved_under_its_mount(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mnt" / "llama")
    source = ModelSource(uri="pvc://models/llama", mount=str(tmp_path / "mnt"))
    assert fetch_model(source, tmp_path / "cache", no_progress).path == folder


@pytest.mark.parametrize(
    ("uri", "mount", "said"),
    [
        ("pvc://models/llama", None, "the claim is not mounted here; set source.mount"),
        ("pvc://models/../../etc", "MOUNT", "the path leads out of the claim"),
        ("pvc://models/none", "MOUNT", "does not exist; name the folder that holds config.json"),
        ("file:///no/such/model", None, "/no/such/model does not exist; name the folder"),
        ("file:///etc/hostname", None, "/etc/hostname is a file; name the folder"),
        ("file://relative/path", None, "not absolute; write file:///the/whole/path"),
        ("gs://bucket/model", None, "no known form; write hf://org/name"),
        ("hf://only-a-name", None, "write hf://org/name"),
        ("s3://", None, "names no bucket; write s3://bucket/path"),
    ],
)
def test_bad_place_is_a_sentence_with_the_remedy(tmp_path: Path, uri: str, mount: str | None, said: str) -> None:
    source = ModelSource(uri=uri, mount=str(tmp_path) if mount else None)
    assert said in refusal(source, tmp_path / "cache")


def test_revision_that_contradicts_the_uri_is_refused(tmp_path: Path) -> None:
    source = ModelSource(uri="hf://org/name@v1", revision="v2")
    assert 'the URI says revision "v1", model.revision says "v2"' in refusal(source, tmp_path / "cache")
