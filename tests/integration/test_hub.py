"""hf:// models through the real huggingface_hub, against a local stand-in of the hub's HTTP interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints import LLAMA_SHAPES, write_checkpoint, write_safetensors
from tests.fakes.hub_server import COMMIT, HubServer
from tests.fakes.tls_server import TlsServer
from tests.unit.runner.requests import trial_request

from haqa_contract import FailureReason, ModelSource, VariantSource
from haqa_contract.failures import TrialFailure
from haqa_runner.models import FetchedModel, fetch_model, hub, look_at_model
from haqa_runner.models.facts import model_facts
from haqa_runner.progress import no_progress
from haqa_runner.quantize.look import looked_at

LARGE = {**LLAMA_SHAPES, "model.layers.0.mlp.up_proj.weight": (2048, 1024)}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    folder = write_checkpoint(tmp_path / "repository", LARGE)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}")
    monkeypatch.setattr(hub, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with HubServer(folder) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fetched(cache: Path, uri: str = "hf://org/tiny", **source: Any) -> FetchedModel:
    return fetch_model(ModelSource(uri=uri, **source), cache, no_progress)


def refusal(cache: Path, uri: str = "hf://org/tiny", **source: Any) -> str:
    with pytest.raises(TrialFailure) as raised:
        fetched(cache, uri, **source)
    assert raised.value.reason is FailureReason.MODEL_FETCH
    assert uri in raised.value.message
    return raised.value.message


def test_model_is_downloaded_and_identified_by_its_commit(server: HubServer, cache: Path) -> None:
    model = fetched(cache)
    assert model.digest == f"commit-{COMMIT}"
    names = {path.name for path in model.path.iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (model.path / "model.safetensors").read_bytes() == (server.folder / "model.safetensors").read_bytes()
    assert model.size_bytes == sum((server.folder / name).stat().st_size for name in names)


def test_second_fetch_downloads_nothing(server: HubServer, cache: Path) -> None:
    first = fetched(cache)
    server.requests.clear()
    assert fetched(cache) == first
    assert not [path for command, path in server.requests if command == "GET" and "/resolve/" in path]


def test_code_is_fetched_only_if_it_is_trusted(server: HubServer, cache: Path) -> None:
    assert (fetched(cache, trust_remote_code=True).path / "modeling_tiny.py").exists()


@pytest.mark.parametrize("source", [{"uri": f"hf://org/tiny@{COMMIT}"}, {"revision": COMMIT}])
def test_revision_may_be_part_of_the_uri(server: HubServer, cache: Path, source: dict[str, str]) -> None:
    assert fetched(cache, **source).digest == f"commit-{COMMIT}"


def test_token_comes_from_the_named_variable(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_right"
    monkeypatch.setenv("MY_TOKEN", "hf_right")
    assert fetched(cache, token_env="MY_TOKEN").digest == f"commit-{COMMIT}"


def test_wrong_token_is_refused_without_being_shown(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "hf_right"
    monkeypatch.setenv("MY_TOKEN", "hf_wrong")
    said = refusal(cache, token_env="MY_TOKEN")
    assert f"{server.url} refuses access (401)" in said
    assert "the token in MY_TOKEN" in said
    assert "hf_wrong" not in said


def test_empty_token_variable_is_named(server: HubServer, cache: Path) -> None:
    assert "environment variable MY_TOKEN is empty" in refusal(cache, token_env="MY_TOKEN")


def test_unknown_model_is_not_retried(server: HubServer, cache: Path) -> None:
    assert f"not found on {server.url}; check the name, HF_ENDPOINT" in refusal(cache, "hf://org/none")
    assert len([path for _, path in server.requests if "/revision/" in path]) <= 2


def test_unknown_revision_is_named(server: HubServer, cache: Path) -> None:
    assert 'has no revision "v9"' in refusal(cache, "hf://org/tiny@v9")


def test_server_error_that_passes_is_survived(server: HubServer, cache: Path) -> None:
    server.failures = {"/revision/main": [500, 500], "model.safetensors": [503]}
    assert fetched(cache).digest == f"commit-{COMMIT}"


@pytest.mark.parametrize("headers", [{"Retry-After": "203"}, {"RateLimit": '"api";r=0;t=203'}])
def test_a_hub_that_asks_to_wait_is_waited_for(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("haqa_runner.models.hub.time.sleep", waits.append)
    server.failures, server.failure_headers = {"/revision/main": [429] * 4}, headers
    told: list[str] = []
    fetch_model(ModelSource(uri="hf://org/tiny"), cache, lambda phase, done, message="": told.append(message))
    assert waits == [203] * 2, "each attempt looks twice"
    assert f"{server.url} asks to wait 203 s before hf://org/tiny" in told


def test_a_hub_is_not_waited_for_without_end(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("haqa_runner.models.hub.time.sleep", waits.append)
    server.failures, server.failure_headers = {"/revision/main": [429] * 99}, {"Retry-After": "400"}
    said = refusal(cache)
    assert sum(waits) == 800
    assert "lets nobody ask so often and asks to wait 400 s; try again later, or raise the limit with" in said
    assert "a hub token (model.tokenSecretRef, or HF_TOKEN)" in said


def test_a_certificate_authority_that_is_not_known_names_the_variable(
    tls_server: TlsServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_PAUSES_S", ())
    monkeypatch.setenv("HF_ENDPOINT", tls_server.url)
    said = refusal(cache)
    assert f"the certificate of {tls_server.url} is not trusted" in said
    assert "SSL_CERT_FILE" in said


def test_server_error_that_stays_is_a_sentence(server: HubServer, cache: Path) -> None:
    server.failures = {"/revision/main": [500] * 99}
    assert f"{server.url} answered 500 three times" in refusal(cache)


def test_broken_download_goes_on_where_it_stopped(server: HubServer, cache: Path) -> None:
    # huggingface_hub writes and resumes in chunks of 10 MiB.
    weights = write_safetensors(server.folder / "model.safetensors", {"model.layers.0.up.weight": (8192, 1024)})
    size, broken_at = weights.stat().st_size, 12 * 2**20
    server.break_off = {weights.name: [broken_at]}
    model = fetched(cache)
    assert (model.path / weights.name).read_bytes() == weights.read_bytes()
    assert server.bytes_sent[weights.name] == broken_at + size - 10 * 2**20


def test_hub_that_is_down_serves_from_a_complete_cache(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetched(cache)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetched(cache) == first


def test_hub_that_is_down_with_nothing_cached_is_a_sentence(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = refusal(cache)
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert "name a file:/// model" in said


def test_offline_with_nothing_cached_names_the_variable(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids downloading" in refusal(cache)


def test_full_disk_is_foreseen(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haqa_runner.disk.free_bytes", lambda path: 2**20)
    said = refusal(cache)
    assert "too little free space for model hf://org/tiny" in said
    assert not [path for command, path in server.requests if command == "GET" and "/resolve/" in path]


def test_repository_without_weights_of_a_safe_kind_is_refused(server: HubServer, cache: Path) -> None:
    (server.folder / "model.safetensors").unlink()
    assert "no weights" in refusal(cache)


def test_download_reports_bytes_done(server: HubServer, cache: Path) -> None:
    told: list[tuple[float, str]] = []
    source = ModelSource(uri="hf://org/tiny")
    fetch_model(source, cache, lambda phase, done, message="": told.append((done, message)))
    assert any("downloading" in message for _, message in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_look_brings_headers_and_no_weights(server: HubServer, cache: Path, knows_ranges: bool) -> None:
    server.knows_ranges = knows_ranges
    weights = server.folder / "model.safetensors"
    whole = model_facts(server.folder, "hf://org/tiny")
    with look_at_model(ModelSource(uri="hf://org/tiny"), cache, no_progress) as (looked, folder):
        assert model_facts(folder, "hf://org/tiny") == whole
        assert (folder / "tokenizer.json").read_bytes() == (server.folder / "tokenizer.json").read_bytes()
        there = (folder / weights.name).stat()
        assert (there.st_size, there.st_blocks * 512 < 2**21) == (weights.stat().st_size, True)
    assert not folder.exists()
    if knows_ranges:
        assert server.bytes_sent[weights.name] <= weights.stat().st_size // 4
    assert fetched(cache) == looked, "a trial fetches what was looked at, to where the look said"


def test_a_look_at_what_is_in_the_cache_asks_for_nothing_more(server: HubServer, cache: Path) -> None:
    model = fetched(cache)
    sent = server.bytes_sent.total()
    with look_at_model(ModelSource(uri="hf://org/tiny"), cache, no_progress) as (looked, folder):
        assert looked == model
        assert (folder / "model.safetensors").read_bytes() == (model.path / "model.safetensors").read_bytes()
    assert server.bytes_sent.total() == sent


def test_a_look_is_as_patient_as_a_download(server: HubServer, cache: Path) -> None:
    server.failures["model.safetensors"] = [503]
    with look_at_model(ModelSource(uri="hf://org/tiny"), cache, no_progress) as (looked, _):
        assert looked.digest == f"commit-{COMMIT}"


def test_a_look_says_what_is_wrong_with_a_file(
    server: HubServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (server.folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    source = ModelSource(uri="hf://org/tiny")
    with pytest.raises(TrialFailure, match="a pointer of git-lfs"), look_at_model(source, cache, no_progress):
        pass
    assert not list((tmp_path / "temporary").iterdir())


def test_a_variant_is_looked_at_and_left_on_the_hub(server: HubServer, cache: Path, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model", LARGE)
    config = json.loads((server.folder / "config.json").read_text())
    (server.folder / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    write_safetensors(server.folder / "model-extra.safetensors", {"model.layers.1.eh_proj.weight": (64, 128)})
    theirs = VariantSource(label="theirs", source=ModelSource(uri="hf://org/tiny"))
    request = trial_request(tmp_path, cache=str(cache), variants=(theirs,), model=ModelSource(uri=f"file://{model}"))
    found = looked_at(request, fetch_model(request.model, cache, no_progress), no_progress)
    (seen,) = found["variants"]
    assert (seen.digest, seen.predicted_tokens) == (f"commit-{COMMIT}", 1)
    assert found["facts"].predicted_tokens == 0
    assert not list(Path(seen.path).glob("*.safetensors"))
    assert fetch_model(theirs.source, cache, no_progress).path == Path(seen.path)
    assert seen.weight_bytes == model_facts(Path(seen.path), "").weight_bytes
