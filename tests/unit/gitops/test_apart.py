"""Publishing in a process of its own: the same answers, within limits, and no credentials where others see them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.git_server import BareRepository, GitServer
from tests.publications import CREDENTIALS, output, publication

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops import PublishError, PublishState
from haqa_operator.gitops.apart import publish_apart

TOKEN = str(CREDENTIALS.token)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "git") as running:
        yield running


@pytest.fixture
def repository(server: GitServer) -> BareRepository:
    return server.repository({"README.md": "ours\n"})


def spec(server: GitServer) -> GitOutput:
    return output(f"{server.url}/team/clusters.git")


def test_it_publishes_as_the_function_does(server: GitServer, repository: BareRepository) -> None:
    first = publish_apart(publication(), spec(server), CREDENTIALS)
    assert (first.state, first.commit) == (PublishState.PUSHED, repository.tip())
    assert publish_apart(publication(), spec(server), CREDENTIALS, first) == first


def test_an_error_comes_back_with_its_sentence(server: GitServer, repository: BareRepository) -> None:
    server.status = 500
    with pytest.raises(PublishError, match=r"git\.url: .* cannot be asked to read") as raised:
        publish_apart(publication(), spec(server), CREDENTIALS)
    assert raised.value.transient


def test_a_server_that_hangs_is_left_and_nobody_sees_the_token(server: GitServer, repository: BareRepository) -> None:
    server.hang.set()
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.extend(_of_children())
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.monotonic()
    with pytest.raises(PublishError, match=r"took longer than 6 s") as raised:
        publish_apart(publication(), spec(server), CREDENTIALS, limit_s=6)
    done.set()
    watching.join()
    assert raised.value.transient
    assert time.monotonic() - began < 30
    assert any("haqa_operator.gitops.apart" in text for text in seen)
    assert not any(TOKEN in text for text in seen)


def test_it_gets_no_variables_of_the_operator(server: GitServer, repository: BareRepository) -> None:
    hostile = {**os.environ, "GIT_SSH_COMMAND": "false", "http_proxy": "http://127.0.0.1:1"}
    with pytest.raises(PublishError, match=r"cannot be asked to read"):
        publish_apart(publication(), spec(server), CREDENTIALS, environment=hostile)
    done = publish_apart(publication(), spec(server), CREDENTIALS, environment=hostile | {"no_proxy": "127.0.0.1"})
    assert done.state is PublishState.PUSHED


def _of_children() -> list[str]:
    """Arguments and environments of this process's children."""
    texts = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()):
                texts += [(process / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
        except OSError:
            continue
    return texts
