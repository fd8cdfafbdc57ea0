"""Models from the Hugging Face Hub or a mirror of it (HF_ENDPOINT), through huggingface_hub's own cache layout."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from haqa_contract import FailureReason, ModelSource
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.bars import Bar, heard_bars
from haqa_runner.disk import disk_full, is_disk_full, require_space
from haqa_runner.models.checkpoint import WEIGHTS, FileSet
from haqa_runner.models.headers import leave_header, link_files
from haqa_runner.progress import ProgressSink

log = logging.getLogger(__name__)

_PAUSES_S = (1.0, 3.0)
"""Before the second and the third attempt."""
_LONGEST_WAIT_S = 900.0
"""All waits together that a hub may ask for; its windows are of five minutes."""
_ETAG_TIMEOUT_S = 15.0
_WORKERS = 4


def fetch_from_hub(source: ModelSource, files: FileSet, cache: Path, progress: ProgressSink) -> tuple[Path, str]:
    """The model's snapshot folder and its commit.

    `hf://org/name` or `hf://org/name@revision`. Server errors and broken connections are retried; an interrupted
    download goes on where it stopped. With the hub out of reach a complete snapshot in the cache serves.

    Raises:
        TrialFailure: ModelFetch.
    """
    return _patiently(source, cache, progress, lambda hub: _download(hub, files, cache, progress))


def look_on_hub(
    source: ModelSource, files: FileSet, cache: Path, place: Path, progress: ProgressSink
) -> tuple[Path, str]:
    """The folder that `fetch_from_hub` would return, and the commit; `place` gets what tells about the model.

    Small files come with it, of weight files only headers. A model that is in the cache is linked whole.

    Raises:
        TrialFailure: as `fetch_from_hub`.
    """
    return _patiently(source, cache, progress, lambda hub: _look(hub, files, cache, place, progress))


@dataclass(frozen=True)
class _Repository:
    """A model on the hub, as the user means it."""

    source: ModelSource
    name: str
    revision: str | None


def _patiently(
    source: ModelSource, cache: Path, progress: ProgressSink, asked: Callable[[_Repository], tuple[Path, str]]
) -> tuple[Path, str]:
    """Asks until the hub answers, or will not."""
    name, _, revision = source.uri.removeprefix("hf://").partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise _refused(source, "no model of that form; write hf://org/name or hf://org/name@revision")
    if revision and source.revision and revision != source.revision:
        raise _refused(source, f'the URI says revision "{revision}", model.revision says "{source.revision}"; keep one')
    pauses, waited_s = list(_PAUSES_S), 0.0
    while True:
        try:
            return asked(_Repository(source, name, revision or source.revision))
        except TrialFailure:
            raise
        except Exception as error:
            if is_disk_full(error):
                raise disk_full(cache, None, f"model {source.uri}", FailureReason.MODEL_FETCH) from error
            asked_s = _asked_wait_s(error)
            if asked_s and waited_s + asked_s <= _LONGEST_WAIT_S:
                waited_s += asked_s
                progress("fetch", 0.0, f"{_endpoint()} asks to wait {asked_s:.0f} s before {source.uri}")
                time.sleep(asked_s)
                continue
            if not pauses or asked_s or not _may_pass(error):
                raise _refused(source, _sentence(error, source, name)) from error
            log.warning("%s: an attempt failed (%s), trying again", source.uri, cause_of(error))
            time.sleep(pauses.pop(0))


def _options(hub: _Repository, files: FileSet, cache: Path) -> dict[str, Any]:
    import tqdm.std

    return {
        "revision": hub.revision,
        "cache_dir": cache / "hub",
        "token": _token(hub.source),
        "endpoint": _endpoint(),
        "allow_patterns": list(files.patterns),
        "ignore_patterns": list(files.ignored),
        "etag_timeout": _ETAG_TIMEOUT_S,
        "max_workers": _WORKERS,
        # The hub's own class is silent where there is no terminal.
        "tqdm_class": tqdm.std.tqdm,
    }


def _download(hub: _Repository, files: FileSet, cache: Path, progress: ProgressSink) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    source, options = hub.source, _options(hub, files, cache)
    missing = furthest = 0

    def listen(bar: Bar) -> None:
        # The hub's client has a bar for what comes in and one for files put together, in no order.
        nonlocal furthest
        if bar.unit == "B" and missing:
            furthest = max(furthest, int(bar.done))
            progress("fetch", min(0.99, furthest / missing), f"downloading {source.uri}")

    with heard_bars(listen):
        missing = sum(file.file_size or 0 for file in _missing(hub, options))
        require_space(cache, missing, f"model {source.uri}", FailureReason.MODEL_FETCH)
        folder = Path(snapshot_download(hub.name, **options))
    return folder, folder.name


def _look(hub: _Repository, files: FileSet, cache: Path, place: Path, progress: ProgressSink) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    options = _options(hub, files, cache)
    with heard_bars(lambda bar: None):
        weights = [file for file in _missing(hub, options) if file.filename.endswith(WEIGHTS)]
        if weights:
            # What was listed and what is read are of one commit.
            options |= {"revision": weights[0].commit_hash, "ignore_patterns": [*files.ignored, f"*{WEIGHTS}"]}
        folder = Path(snapshot_download(hub.name, **options))
    progress("fetch", 0.5, f"reading headers of {hub.source.uri}")
    with ThreadPoolExecutor(_WORKERS) as workers:
        headers = workers.map(lambda file: leave_header(place / file.filename, *_weights(hub, file)), weights)
        for done, _ in enumerate(headers, start=1):
            progress("fetch", 0.5 + 0.49 * done / len(weights), f"reading headers of {hub.source.uri}")
    link_files(files.of(folder), place)
    return folder, folder.name


def _weights(hub: _Repository, file: Any) -> tuple[int, Callable[[int], bytes]]:
    """Size of a file on the hub, and how its first bytes are read."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(hub.name, file.filename, revision=file.commit_hash, endpoint=_endpoint())
    headers = build_hf_headers(token=_token(hub.source))

    def beginning(length: int) -> bytes:
        found = b""
        wanted = {**headers, "Range": f"bytes=0-{length - 1}"}
        with get_session().stream("GET", url, headers=wanted, follow_redirects=True) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            # A mirror that knows no ranges sends all; the rest stays there.
            for part in response.iter_bytes():
                found += part
                if len(found) >= length:
                    break
        return found[:length]

    return file.file_size or 0, beginning


def _missing(hub: _Repository, options: dict[str, Any]) -> list[Any]:
    """Files that the cache lacks; none when the hub cannot be asked, for then nothing will be downloaded either."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HfHubHTTPError

    try:
        plan = snapshot_download(hub.name, **options, dry_run=True)
    except DryRunError as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            # The hub answered, with an error; the download itself would say so less clearly.
            log.info("dry run: %s", cause_of(error.__cause__))
        return []
    return [file for file in plan if file.will_download]


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _token(source: ModelSource) -> str | None:
    """The hub token; None leaves the choice to huggingface_hub (HF_TOKEN, or the one logged in with)."""
    if source.token_env is None:
        return None
    token = os.environ.get(source.token_env)
    if not token:
        raise _refused(source, f"environment variable {source.token_env} is empty; put the hub token there")
    return token


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may end differently: the server failed or the connection broke."""
    import httpx
    from huggingface_hub.errors import OfflineModeIsEnabled

    chain = _chain(error)
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return False
    statuses = _statuses(chain)
    if statuses:
        return any(status >= 500 or status in (408, 429) for status in statuses)
    cut_short = any("Consistency check failed" in str(link) for link in chain)
    return cut_short or any(isinstance(link, httpx.TransportError) for link in chain)


def _asked_wait_s(error: BaseException) -> float | None:
    """How long the hub asks to wait, by `Retry-After` or `RateLimit` (draft-ietf-httpapi-ratelimit-headers)."""
    for response in (getattr(link, "response", None) for link in _chain(error)):
        if response is None or response.status_code not in (429, 503):
            continue
        limit = re.search(r"\bt=(\d+)", response.headers.get("RateLimit", ""))
        stated = response.headers.get("Retry-After") or (limit[1] if limit else "")
        if stated.isdigit():
            return float(stated)
        with contextlib.suppress(ValueError):
            return max(0.0, (parsedate_to_datetime(stated) - datetime.now(UTC)).total_seconds())
    return None


def _sentence(error: BaseException, source: ModelSource, name: str) -> str:
    from huggingface_hub import errors

    endpoint = _endpoint()
    token = (
        f"the token in {source.token_env}" if source.token_env else "a hub token (model.tokenSecretRef, or HF_TOKEN)"
    )
    chain = _chain(error)
    if any(isinstance(link, errors.GatedRepoError) for link in chain):
        return f"gated; accept its licence on {endpoint}/{name} and check {token}"
    statuses = _statuses(chain)
    if 401 in statuses or 403 in statuses:
        status = 401 if 401 in statuses else 403
        return (
            f"{endpoint} refuses access ({status}): the name is wrong or the model is private; check both and {token}"
        )
    if any(isinstance(link, errors.RevisionNotFoundError) for link in chain):
        revision = source.revision or source.uri.partition("@")[2]
        return f'{endpoint} has no revision "{revision}" of it; name a branch, tag or commit'
    if 404 in statuses:
        return f"not found on {endpoint}; check the name, HF_ENDPOINT, and {token} if it is private"
    if any(isinstance(link, errors.OfflineModeIsEnabled) for link in chain):
        return "not in the cache, and HF_HUB_OFFLINE forbids downloading; unset it, or name a file:/// model"
    if 429 in statuses:
        asked_s = _asked_wait_s(error)
        wait = f" and asks to wait {asked_s:.0f} s" if asked_s else ""
        return f"{endpoint} lets nobody ask so often{wait}; try again later, or raise the limit with {token}"
    if any("CERTIFICATE_VERIFY_FAILED" in str(link) for link in chain):
        return (
            f"the certificate of {endpoint} is not trusted; name the file of your certificate authority in "
            "SSL_CERT_FILE"
        )
    if statuses:
        return f"{endpoint} answered {statuses[0]} three times; try again later, or set HF_ENDPOINT to a mirror"
    why = cause_of(chain[-1])
    return f"{endpoint} cannot be reached ({why}); check HF_ENDPOINT and the network, or name a file:/// model"


def _statuses(chain: list[BaseException]) -> list[int]:
    """HTTP statuses that the errors tell of."""
    responses = [getattr(link, "response", None) for link in chain]
    return [int(response.status_code) for response in responses if response is not None]


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def _refused(source: ModelSource, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.MODEL_FETCH, f"model {source.uri}: {why}")
