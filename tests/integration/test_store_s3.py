"""s3:// models and artifacts through the real boto3, against moto's S3 server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from tests.checkpoints import LLAMA_SHAPES, write_checkpoint
from tests.fakes.tls_server import TlsServer
from tests.unit.cluster.observe.pods import measured
from tests.unit.runner.requests import trial_request

from haqa_contract import Algorithm, FailureReason, ModelSource, Scheme, TrialReport
from haqa_contract.failures import TrialFailure
from haqa_runner.__main__ import main
from haqa_runner.archive import archived
from haqa_runner.datasets import fingerprint, load_texts
from haqa_runner.models import fetch_model, look_at_model
from haqa_runner.models.facts import model_facts
from haqa_runner.progress import Phases, no_progress
from haqa_runner.s3 import S3Client, S3Place, s3_sentence
from haqa_runner.store import Artifact, ArtifactKey, LocalStore, S3Store, open_store
from haqa_runner.store.leases import LeaseTiming, leased

BUCKET = "artifacts"
QUICK = LeaseTiming(expiry_s=2.0, renewal_s=0.2, poll_s=0.05)
KEY = ArtifactKey(
    model_digest="sha256-abc",
    scheme=Scheme.W4A16,
    algorithm=Algorithm.RTN,
    recipe_version=1,
    tool_versions={"llmcompressor": "0.14"},
)
CONTENT = b"weights" * 100_000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, and the environment that a pod would have."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


def write_model(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")


def machine(tmp_path: Path, name: str) -> S3Store:
    """The store as one machine sees it: same bucket, a cache of its own."""
    return S3Store(S3Place(BUCKET, "haqa"), LocalStore(tmp_path / name), timing=QUICK)


def obtain(store: S3Store, build: Callable[[Path], None] = write_model, wait_s: float = 30) -> Artifact:
    return store.obtain(KEY, build, estimate_bytes=1000, phases=Phases(), wait_s=wait_s)


def never(folder: Path) -> None:
    pytest.fail("made twice")


def keys(s3: Any, prefix: str = "") -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]


def manifest(s3: Any) -> dict[str, Any]:
    body = s3.get_object(Bucket=BUCKET, Key=f"haqa/artifacts/{KEY.digest}/manifest.json")["Body"].read()
    content: dict[str, Any] = json.loads(body)
    return content


def test_artifact_made_on_one_machine_is_read_on_another(s3: Any, tmp_path: Path) -> None:
    made = obtain(machine(tmp_path, "one"))
    assert not made.reused
    found = obtain(machine(tmp_path, "two"), never)
    assert found.reused
    assert found.path != made.path
    assert (found.path / "model.safetensors").read_bytes() == CONTENT
    assert machine(tmp_path, "three").find(KEY) is not None
    assert keys(s3, "haqa/leases/") == []


def test_what_is_in_the_cache_is_not_downloaded_again(s3: Any, tmp_path: Path) -> None:
    made = obtain(machine(tmp_path, "one"))
    upload = manifest(s3)["upload"]
    s3.delete_object(Bucket=BUCKET, Key=f"haqa/artifacts/{KEY.digest}/{upload}/model.safetensors")
    assert obtain(machine(tmp_path, "one"), never).path == made.path


def test_artifact_without_a_manifest_is_none(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"haqa/artifacts/{KEY.digest}/upload-dead/model.safetensors", Body=b"half")
    assert machine(tmp_path, "one").find(KEY) is None
    obtain(machine(tmp_path, "one"))
    assert not [key for key in keys(s3) if "upload-dead" in key]


def test_cached_artifact_that_the_bucket_lacks_is_uploaded(s3: Any, tmp_path: Path) -> None:
    LocalStore(tmp_path / "one").obtain(KEY, write_model, estimate_bytes=1, phases=Phases())
    obtain(machine(tmp_path, "one"), never)
    assert manifest(s3)["manifest"]["digest"] == KEY.digest


DAMAGE: dict[str, Callable[[Any, str], object]] = {
    "changed byte": lambda s3, key: s3.put_object(Bucket=BUCKET, Key=key, Body=b"W" + CONTENT[1:]),
    "cut short": lambda s3, key: s3.put_object(Bucket=BUCKET, Key=key, Body=CONTENT[:-1]),
    "missing": lambda s3, key: s3.delete_object(Bucket=BUCKET, Key=key),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_upload_is_never_read_and_made_anew(
    s3: Any, tmp_path: Path, damage: Callable[[Any, str], object]
) -> None:
    obtain(machine(tmp_path, "one"))
    damage(s3, f"haqa/artifacts/{KEY.digest}/{manifest(s3)['upload']}/model.safetensors")
    assert machine(tmp_path, "two").find(KEY) is None
    again = obtain(machine(tmp_path, "two"))
    assert not again.reused
    assert len(keys(s3, "haqa/damaged/")) == 1
    assert (obtain(machine(tmp_path, "three"), never).path / "model.safetensors").read_bytes() == CONTENT


def test_damaged_manifest_is_made_anew(s3: Any, tmp_path: Path) -> None:
    obtain(machine(tmp_path, "one"))
    s3.put_object(Bucket=BUCKET, Key=f"haqa/artifacts/{KEY.digest}/manifest.json", Body=b"{")
    assert machine(tmp_path, "two").find(KEY) is None
    assert not obtain(machine(tmp_path, "two")).reused


def test_two_machines_make_it_once(s3: Any, tmp_path: Path) -> None:
    built: list[str] = []
    both = threading.Barrier(2)

    def ask(name: str) -> Artifact:
        def build(folder: Path) -> None:
            built.append(name)
            write_model(folder)

        both.wait(10)
        return obtain(machine(tmp_path, name), build)

    with ThreadPoolExecutor(2) as pool:
        artifacts = list(pool.map(ask, ["one", "two"]))
    assert len(built) == 1
    assert {artifact.reused for artifact in artifacts} == {True, False}
    assert keys(s3, "haqa/leases/") == []


def hold(place: S3Place, timing: LeaseTiming = QUICK, **how: Any) -> Any:
    how = {"limit_s": 0.2, "waiting": lambda holder, share: None, "what": "it", "wanted": lambda: True, **how}
    return leased(S3Client(), place, timing=timing, **how)


def test_living_holder_keeps_its_lease_beyond_expiry(s3: Any) -> None:
    place, timing = S3Place(BUCKET, "leases/x.json"), LeaseTiming(expiry_s=4.0, renewal_s=0.5, poll_s=0.1)
    with hold(place, timing) as lease:
        with pytest.raises(TrialFailure) as raised, hold(place, timing, limit_s=6.0):
            pytest.fail("held twice")
        assert raised.value.reason is FailureReason.TIMEOUT
        assert str(place) in raised.value.message
        assert not lease.lost


def test_lease_of_a_dead_holder_is_taken_over(s3: Any) -> None:
    place = S3Place(BUCKET, "leases/x.json")
    s3.put_object(Bucket=BUCKET, Key=place.key, Body=b"{}")
    told: list[str] = []
    with hold(place, limit_s=20, waiting=lambda holder, share: told.append(holder)) as lease:
        assert lease is not None
    assert told


def test_holder_that_was_taken_over_notices_and_leaves_the_new_lease(s3: Any) -> None:
    place = S3Place(BUCKET, "leases/x.json")
    with hold(place) as lease:
        s3.put_object(Bucket=BUCKET, Key=place.key, Body=b"somebody else")
        assert lease._lost.wait(5)
        assert lease.lost
    assert keys(s3, place.key) == [place.key]


def test_waiting_ends_when_somebody_else_has_done_the_work(s3: Any) -> None:
    place = S3Place(BUCKET, "leases/x.json")
    s3.put_object(Bucket=BUCKET, Key=place.key, Body=b"{}")
    with hold(place, LeaseTiming(poll_s=0.05), limit_s=10, wanted=lambda: False) as lease:
        assert lease is None


@pytest.mark.parametrize(
    ("where", "said"),
    [("s3://no-such-bucket/x", "does not exist (NoSuchBucket)"), ("s3://", "names no bucket")],
)
def test_bad_store_is_a_sentence(s3: Any, tmp_path: Path, where: str, said: str) -> None:
    with pytest.raises(TrialFailure, match="artifact store") as raised:
        open_store(where, tmp_path).obtain(KEY, write_model, estimate_bytes=1, phases=Phases())
    assert said in raised.value.message


def test_a_store_is_checked_before_anything_is_kept_in_it(s3: Any, tmp_path: Path) -> None:
    open_store(f"s3://{BUCKET}/haqa", tmp_path).check()
    assert keys(s3) == []
    with pytest.raises(TrialFailure, match=r"spec\.artifacts: artifact store s3://no-such-bucket/x does not") as raised:
        open_store("s3://no-such-bucket/x", tmp_path).check()
    assert raised.value.reason is FailureReason.MODEL_FETCH


@pytest.mark.parametrize("ignored", [("If-None-Match",), ("If-Match",), ("If-None-Match", "If-Match")])
def test_a_server_that_ignores_conditions_is_noticed(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: tuple[str, ...]
) -> None:
    def deaf(self: S3Client) -> Any:
        client = boto3.client("s3")
        names = {"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}
        put = client.put_object
        client.put_object = lambda **given: put(**{k: v for k, v in given.items() if names.get(k) not in ignored})
        return client

    monkeypatch.setattr(S3Client, "boto", property(deaf))
    with pytest.raises(TrialFailure) as raised:
        open_store(f"s3://{BUCKET}/haqa", tmp_path).check()
    assert f"ignores {' and '.join(ignored)}, which keep two runners" in raised.value.message
    assert keys(s3) == []


def test_a_certificate_authority_of_ones_own_names_its_variable(
    s3: Any, tls_server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", tls_server.url)
    monkeypatch.setattr("haqa_runner.s3.REQUEST_ATTEMPTS", 1)
    with pytest.raises(TrialFailure) as raised:
        open_store("s3://bucket/x", tmp_path).check()
    assert f"the certificate of {tls_server.url} is not trusted" in raised.value.message
    assert "AWS_CA_BUNDLE" in raised.value.message


ANSWERS = {
    (
        "SignatureDoesNotMatch",
        403,
    ): "access denied (SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID, AWS_SECRET",
    ("NameOfItsOwn", 403): "access denied (NameOfItsOwn); check AWS_ACCESS_KEY_ID, AWS_SECRET",
    ("NameOfItsOwn", 404): "(NameOfItsOwn) when calling the PutObject operation: no such user); check AWS_ENDPOINT_URL "
    "and AWS_ACCESS_KEY_ID",
}


@pytest.mark.parametrize(("code", "status"), ANSWERS)
def test_refused_credentials_are_known_by_code_or_status(code: str, status: int) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "no such user"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert ANSWERS[code, status] in s3_sentence(S3Place(BUCKET, "x"), ClientError(answer, "PutObject"))


def test_a_trial_s_report_is_kept_in_the_bucket_whole(s3: Any, tmp_path: Path) -> None:
    where = f"s3://{BUCKET}/haqa/reports/team/demo/demo-1/1.json"
    report = measured(windows=24)
    assert archived(trial_request(tmp_path, report=where), report) == report
    body = s3.get_object(Bucket=BUCKET, Key="haqa/reports/team/demo/demo-1/1.json")["Body"].read()
    assert TrialReport.model_validate_json(body) == report


def test_a_report_that_the_bucket_does_not_take_is_a_warning(s3: Any, tmp_path: Path) -> None:
    where = "s3://no-such-bucket/haqa/reports/team/demo/demo-1/1.json"
    (warning,) = archived(trial_request(tmp_path, report=where), measured()).warnings
    assert f"the report is not in the artifact store: {where} does not exist (NoSuchBucket)" in warning


def test_unreachable_endpoint_names_the_variable(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("haqa_runner.s3.REQUEST_ATTEMPTS", 1)
    with pytest.raises(TrialFailure, match="check AWS_ENDPOINT_URL"):
        open_store("s3://bucket/x", tmp_path).find(KEY)


def upload(s3: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")


def test_model_is_downloaded_once_and_identified_by_its_listing(s3: Any, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (folder / "optimizer.pt").write_bytes(b"not part of it")
    upload(s3, folder, "models/tiny")
    source = ModelSource(uri=f"s3://{BUCKET}/models/tiny")
    model = fetch_model(source, tmp_path / "cache", no_progress)
    assert model.digest.startswith("etags-")
    assert {path.name for path in model.path.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    inode = (model.path / "config.json").stat().st_ino
    assert fetch_model(source, tmp_path / "cache", no_progress) == model
    assert (model.path / "config.json").stat().st_ino == inode


def test_a_look_brings_headers_and_no_weights(s3: Any, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", {**LLAMA_SHAPES, "model.layers.0.mlp.up_proj.weight": (2048, 1024)})
    upload(s3, folder, "looked")
    source, cache = ModelSource(uri=f"s3://{BUCKET}/looked"), tmp_path / "cache"
    size = (folder / "model.safetensors").stat().st_size
    with look_at_model(source, cache, no_progress) as (looked, place):
        assert model_facts(place, source.uri) == model_facts(folder, source.uri)
        there = (place / "model.safetensors").stat()
        assert (there.st_size, there.st_blocks * 512 < size) == (size, True)
    assert not place.exists()
    assert not looked.path.exists()
    assert fetch_model(source, cache, no_progress) == looked
    with look_at_model(source, cache, no_progress) as (again, place):
        assert again == looked
        assert (place / "model.safetensors").resolve() == looked.path / "model.safetensors"


def test_changed_model_is_another_model(s3: Any, tmp_path: Path) -> None:
    upload(s3, write_checkpoint(tmp_path / "model"), "tiny")
    source = ModelSource(uri=f"s3://{BUCKET}/tiny")
    before = fetch_model(source, tmp_path / "cache", no_progress)
    s3.put_object(Bucket=BUCKET, Key="tiny/tokenizer.json", Body=b'{"version": 2}')
    after = fetch_model(source, tmp_path / "cache", no_progress)
    assert after.digest != before.digest
    assert (after.path / "tokenizer.json").read_text() == '{"version": 2}'
    assert (before.path / "tokenizer.json").read_text() == "{}"


def test_interrupted_model_download_leaves_nothing_to_read(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(s3, write_checkpoint(tmp_path / "model"), "tiny")
    source = ModelSource(uri=f"s3://{BUCKET}/tiny")
    monkeypatch.setattr("haqa_runner.models.bucket.sync_file", lambda path: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(TrialFailure, match="too little free space for model"):
        fetch_model(source, tmp_path / "cache", no_progress)
    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]


def test_empty_prefix_is_a_sentence(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match=r"no config\.json under s3://artifacts/none \(nothing is there\)") as raised:
        fetch_model(ModelSource(uri=f"s3://{BUCKET}/none"), tmp_path / "cache", no_progress)
    assert raised.value.reason is FailureReason.MODEL_FETCH


def test_text_comes_from_a_bucket_and_its_change_is_noticed(s3: Any) -> None:
    uri = f"s3://{BUCKET}/texts/x.jsonl"
    s3.put_object(Bucket=BUCKET, Key="texts/x.jsonl", Body=b'{"text": "one"}\n')
    before = fingerprint(uri)
    assert load_texts(uri) == ["one"]
    s3.put_object(Bucket=BUCKET, Key="texts/x.jsonl", Body=b'{"text": "two"}\n')
    assert fingerprint(uri) != before


def test_missing_text_in_a_bucket_is_a_sentence(s3: Any) -> None:
    with pytest.raises(TrialFailure, match="does not exist"):
        load_texts(f"s3://{BUCKET}/texts/none.jsonl")


def fetched(tmp_path: Path, digest: str) -> int:
    """As the init container of a winner's Deployment runs it, with folders of its own."""
    where = ["--directory", str(tmp_path / "haqa"), "--cache", str(tmp_path / "store" / "cache")]
    return main(["fetch", "--store", f"s3://{BUCKET}/haqa", "--digest", digest, *where])


def test_a_winner_fetches_its_artifact_by_digest_alone(s3: Any, tmp_path: Path) -> None:
    made = obtain(machine(tmp_path, "trial"))
    assert fetched(tmp_path / "pod", made.digest) == 0
    link = tmp_path / "pod" / "haqa" / "model"
    assert link.is_symlink()
    assert (link / "model.safetensors").read_bytes() == CONTENT


def test_an_artifact_that_is_not_there_is_a_sentence(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetched(tmp_path, "ab" * 32) == 3
    assert f"ModelFetch: artifact {'ab' * 32} is not in s3://{BUCKET}/haqa" in capsys.readouterr().err
    assert not (tmp_path / "haqa" / "model").exists()


def test_a_damaged_artifact_is_not_served(s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = obtain(machine(tmp_path, "trial"))
    (weights,) = [
        entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"] if entry["Key"].endswith(".safetensors")
    ]
    s3.put_object(Bucket=BUCKET, Key=weights, Body=b"w" * len(CONTENT))
    assert fetched(tmp_path / "pod", made.digest) == 3
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "pod" / "haqa" / "model").exists()


def test_an_unquantized_winner_is_the_model_that_was_measured(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in write_checkpoint(tmp_path / "model").iterdir():
        s3.upload_file(str(file), BUCKET, f"models/demo/{file.name}")
    uri = f"s3://{BUCKET}/models/demo"
    measured = fetch_model(ModelSource(uri=uri), tmp_path / "cache", no_progress)
    words = ["fetch", "--model", uri, "--directory", str(tmp_path / "haqa"), "--cache", str(tmp_path / "pod")]
    assert main([*words, "--digest", measured.digest]) == 0
    assert (tmp_path / "haqa" / "model" / "config.json").is_file()
    assert main([*words, "--digest", "etags-other"]) == 3
    assert "etags-other was measured" in capsys.readouterr().err
