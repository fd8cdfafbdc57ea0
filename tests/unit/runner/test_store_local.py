"""The folder store: published whole or not at all, made once, verified when read."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract import Algorithm, FailureReason, Scheme
from haqa_contract.failures import TrialFailure
from haqa_runner.progress import Phases
from haqa_runner.store import Artifact, ArtifactKey, CalibrationKey, LocalStore, open_store

KEY = ArtifactKey(
    model_digest="sha256-abc",
    scheme=Scheme.W4A16,
    algorithm=Algorithm.GPTQ,
    calibration=CalibrationKey(dataset="file:///x.txt sha256-1", samples=8, sequence_length=64, seed=0),
    recipe_version=1,
    tool_versions={"llmcompressor": "0.14"},
)
OTHER = KEY.model_copy(update={"scheme": Scheme.W8A8_INT8})
CONTENT = b"weights" * 1000


def write_model(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")


def obtain(
    store: LocalStore, build: Callable[[Path], None] = write_model, key: ArtifactKey = KEY, **how: Any
) -> Artifact:
    return store.obtain(key, build, **{"estimate_bytes": 1000, "phases": Phases(), **how})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_artifact_is_made_once_and_found_again(store: LocalStore) -> None:
    assert store.find(KEY) is None
    made = obtain(store)
    assert not made.reused
    assert (made.path / "model.safetensors").read_bytes() == CONTENT
    found = obtain(store, build=lambda folder: pytest.fail("made twice"))
    assert found == made.model_copy(update={"reused": True})
    assert store.find(KEY) == found
    assert store.find(OTHER) is None


def test_files_are_readable_by_an_engine_of_another_user(store: LocalStore) -> None:
    def build(folder: Path) -> None:
        write_model(folder)
        (folder / "model.safetensors").chmod(0o600)

    assert (obtain(store, build).path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_publishing_is_timed(store: LocalStore) -> None:
    phases = Phases()
    obtain(store, phases=phases)
    assert [phase.name for phase in phases.so_far] == ["publish"]


def test_failed_build_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        write_model(folder)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        obtain(store, build)
    assert store.find(KEY) is None
    assert not list((tmp_path / "store" / "partial").iterdir())
    assert not obtain(store).reused


def test_empty_build_is_not_published(store: LocalStore) -> None:
    with pytest.raises(ValueError, match="is empty"):
        obtain(store, build=lambda folder: None)
    assert store.find(KEY) is None


def test_link_in_an_artifact_is_refused(store: LocalStore) -> None:
    with pytest.raises(ValueError, match="an artifact has to stand by itself"):
        obtain(store, build=lambda folder: (folder / "config.json").symlink_to("/etc/hostname"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed byte": lambda model: (model / "model.safetensors").write_bytes(b"W" + CONTENT[1:]),
    "cut short": lambda model: (model / "model.safetensors").write_bytes(CONTENT[:-1]),
    "missing file": lambda model: (model / "config.json").unlink(),
    "damaged manifest": lambda model: (model.parent / "manifest.json").write_text("{"),
    "no manifest": lambda model: (model.parent / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_artifact_is_never_read_and_made_anew(
    store: LocalStore, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(obtain(store).path)
    assert store.find(KEY) is None
    again = obtain(store)
    assert not again.reused
    assert (again.path / "model.safetensors").read_bytes() == CONTENT
    assert len(list((tmp_path / "store" / "damaged").iterdir())) == 1


def test_manifest_of_another_artifact_is_noticed(store: LocalStore, tmp_path: Path) -> None:
    obtain(store)
    obtain(store, key=OTHER)
    artifacts = tmp_path / "store" / "artifacts"
    (artifacts / KEY.digest / "manifest.json").write_bytes((artifacts / OTHER.digest / "manifest.json").read_bytes())
    assert store.find(KEY) is None


def test_checksums_are_computed_on_first_use_and_when_asked(store: LocalStore, tmp_path: Path) -> None:
    weights = obtain(store).path / "model.safetensors"
    assert store.find(KEY) is not None
    _flip_a_byte_unnoticed(weights, tmp_path / "store" / "checksums" / f"{KEY.digest}.json")
    assert store.find(KEY) is not None
    assert store.find(KEY, thorough=True) is None


def test_leftovers_of_a_dead_writer_are_swept(store: LocalStore, tmp_path: Path) -> None:
    for digest in (KEY.digest, OTHER.digest):
        dead = tmp_path / "store" / "partial" / f"{digest}.dead"
        dead.mkdir(parents=True)
        (dead / "half").write_bytes(b"x" * 100)
    obtain(store)
    assert not list((tmp_path / "store" / "partial").iterdir())


def test_partial_work_of_a_living_writer_is_left_alone(store: LocalStore, tmp_path: Path) -> None:
    seen: list[list[Path]] = []

    def outer(folder: Path) -> None:
        obtain(store, key=OTHER)
        seen.append(list((tmp_path / "store" / "partial").iterdir()))
        write_model(folder)

    assert not obtain(store, outer).reused
    assert len(seen[0]) == 1


def test_two_threads_make_it_once(store: LocalStore) -> None:
    built: list[Path] = []
    both = threading.Barrier(2)

    def build(folder: Path) -> None:
        built.append(folder)
        write_model(folder)

    def ask(_: int) -> Artifact:
        both.wait(10)
        return obtain(store, build)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert len(built) == 1
    assert first.path == second.path
    assert {first.reused, second.reused} == {True, False}


def test_waiting_is_told_and_has_a_limit(store: LocalStore) -> None:
    told: list[str] = []

    def outer(folder: Path) -> None:
        with pytest.raises(TrialFailure) as raised:
            obtain(store, wait_s=0.5, progress=lambda phase, done, message="": told.append(message))
        assert raised.value.reason is FailureReason.TIMEOUT
        assert f"process {os.getpid()}" in raised.value.message
        write_model(folder)

    obtain(store, outer)
    assert f"waiting for process {os.getpid()}" in told[0]


def test_killed_writer_holds_up_nobody(store: LocalStore, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from haqa_runner.progress import Phases;"
        "from haqa_runner.store import ArtifactKey, LocalStore\n"
        "def build(folder):\n"
        "    (folder / 'model.safetensors').write_bytes(b'half'); print('writing', flush=True); sys.stdin.read()\n"
        f"key = ArtifactKey.model_validate_json({KEY.model_dump_json()!r})\n"
        f"LocalStore(Path({str(tmp_path / 'store')!r})).obtain(key, build, estimate_bytes=1, phases=Phases())"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdin is not None
    with writer.stdout, writer.stdin:
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
    assert store.find(KEY) is None
    made = obtain(store, wait_s=5)
    assert (made.path / "model.safetensors").read_bytes() == CONTENT
    assert not list((tmp_path / "store" / "partial").iterdir())


def test_disk_without_room_is_refused_before_work(store: LocalStore) -> None:
    with pytest.raises(TrialFailure) as raised:
        obtain(store, lambda folder: pytest.fail("began"), estimate_bytes=2**60)
    assert raised.value.reason is FailureReason.QUANTIZATION_FAILED
    assert f"({2**60} bytes) needed" in raised.value.message
    assert "bytes) free" in raised.value.message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
    ],
)
def test_disk_that_fills_up_meanwhile_is_a_sentence(store: LocalStore, tmp_path: Path, error: Exception) -> None:
    def build(folder: Path) -> None:
        write_model(folder)
        raise error

    with pytest.raises(TrialFailure, match="too little free space for the artifact"):
        obtain(store, build)
    assert not list((tmp_path / "store" / "partial").iterdir())


def test_store_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(TrialFailure, match=r"cannot be used .* check that it is a writable folder"):
        obtain(LocalStore(tmp_path / "store"))


def test_a_store_is_checked_before_anything_is_kept_in_it(store: LocalStore, tmp_path: Path) -> None:
    store.check()
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(TrialFailure, match=r"spec\.artifacts: artifact store .*file cannot be used"):
        LocalStore(tmp_path / "file").check()


def test_errors_of_the_build_are_not_taken_for_the_store_s(store: LocalStore) -> None:
    def build(folder: Path) -> None:
        raise FileNotFoundError("somewhere else")

    with pytest.raises(FileNotFoundError, match="somewhere else"):
        obtain(store, build)


@pytest.mark.parametrize("where", ["gs://bucket/x", "s3://"])
def test_place_that_is_no_store_is_a_sentence(where: str, tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match="artifact store"):
        open_store(where, tmp_path)


def test_folder_and_file_uri_are_the_same_store(tmp_path: Path) -> None:
    made = open_store(str(tmp_path), tmp_path).obtain(KEY, write_model, estimate_bytes=1, phases=Phases())
    assert open_store(f"file://{tmp_path}", tmp_path).find(KEY) == made.model_copy(update={"reused": True})


@given(
    change=st.sampled_from(
        [
            {"model_digest": "sha256-def"},
            {"output_head": True},
            {"prediction_layers": True},
            {"scheme": Scheme.W8A16},
            {"algorithm": Algorithm.RTN},
            {"group_size": 64},
            {"kv_cache": "fp8"},
            {"calibration": None},
            {"recipe_version": 2},
            {"tool_versions": {"llmcompressor": "0.15"}},
        ]
    )
)
def test_whatever_decides_the_content_decides_the_digest(change: dict[str, Any]) -> None:
    assert KEY.model_copy(update=change).digest != KEY.digest


def test_digest_does_not_depend_on_order_or_process() -> None:
    one = KEY.model_copy(update={"tool_versions": {"a": "1", "b": "2"}})
    other = KEY.model_copy(update={"tool_versions": {"b": "2", "a": "1"}})
    assert one.digest == other.digest
    program = (
        "import sys; from haqa_runner.store import ArtifactKey as K; print(K.model_validate_json(sys.argv[1]).digest)"
    )
    command = [sys.executable, "-c", program, one.model_dump_json()]
    for seed in ("1", "2"):
        told = subprocess.check_output(command, text=True, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=30)
        assert told.strip() == one.digest


def _flip_a_byte_unnoticed(path: Path, memory: Path) -> None:
    """Changes content and nothing that `stat` tells, as failing hardware does."""
    before = path.stat()
    path.write_bytes(b"W" + CONTENT[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    memory.write_text(memory.read_text().replace(str(before.st_ctime_ns), str(path.stat().st_ctime_ns)))
