"""Queries that come back in time whatever the other side does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.fakes.background_server import SelfSigned

from haqa_operator.metrics import prometheus_http
from haqa_operator.metrics.prometheus_http import Connection, PrometheusHttp, Refused, Unreachable
from haqa_operator.metrics.prometheus_windows import Unreadable

EMPTY = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int, body: bytes = EMPTY, **headers: str) -> Answer:
    def give(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return give


@contextmanager
def served(give: Answer, tls: SelfSigned | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                give(self)
            except OSError:
                # The client gave up, as it should.
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            tls.wrap(server)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def asked(url: str, **settings: Any) -> object:
    return PrometheusHttp(Connection(**{"url": url, "timeout_s": 5.0, **settings})).query("up")


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, Refused, 'did not accept the query .HTTP 400: bad "x"'),
        (401, Refused, "refused the credentials"),
        (403, Refused, "does not allow these credentials"),
        (404, Refused, "not at this URL"),
        (422, Refused, "did not accept the query"),
        (429, Unreachable, "HTTP 429"),
        (500, Unreachable, "HTTP 500"),
        (503, Unreachable, "HTTP 503"),
    ],
)
def test_a_status_says_whether_asking_again_can_help(status: int, error: type[Unreadable], says: str) -> None:
    body = rb'{"status":"error","error":"bad \"x\""}'.replace(rb"\"", b'\\"')
    with (
        served(answer(status, body)) as url,
        pytest.raises(error, match=says.replace('"x"', r".{1,2}x.{1,2}")) as caught,
    ):
        asked(url)
    assert caught.value.lasting is (error is Refused)


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b"{}", b'{"data": null}', b""])
def test_a_page_that_is_no_prometheus_is_named_as_such(body: bytes) -> None:
    with served(answer(200, body)) as url, pytest.raises(Refused, match="something other than Prometheus' API"):
        asked(url)


def test_a_server_that_asks_to_come_back_in_an_hour_is_not_slept_for() -> None:
    began = time.monotonic()
    with served(answer(503, b"", Retry_After="3600")) as url, pytest.raises(Unreachable):
        asked(url)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("in_the_head", [True, False])
def test_an_answer_that_drips_is_given_up_in_time(in_the_head: bool) -> None:
    over = Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        if not in_the_head:
            request.send_response(200)
            request.end_headers()
        deadline = time.monotonic() + 20
        while not over.wait(0.05) and time.monotonic() < deadline:
            request.wfile.write(b"H" if in_the_head else b" ")
            request.wfile.flush()

    with served(drip) as url:
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"did not answer within 0.5 s"):
            asked(url, timeout_s=0.5)
        assert time.monotonic() - began < 3
        over.set()


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_http, "MAX_ANSWER_BYTES", 2**20)
    with served(answer(200, b" " * 2**22)) as url, pytest.raises(Refused, match="larger than 1 MiB"):
        asked(url)


def test_nobody_there_is_told_in_the_systems_words() -> None:
    with pytest.raises(Unreachable, match=r"cannot be reached \(Connection refused\)"):
        asked("http://127.0.0.1:1")


def test_a_token_goes_along_and_an_entry_in_netrc_does_not_replace_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[str | None] = []

    def look(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        answer(200)(request)

    with served(look) as url:
        assert asked(url, bearer_token="abc") == []
        asked(url)
    assert seen == ["Bearer abc", None]


def test_secrets_are_not_in_the_connections_text() -> None:
    assert "s3cret" not in repr(Connection("http://p", bearer_token="s3cret"))
    assert "s3cret" not in repr(Connection("http://p", username="u", password="s3cret"))


def test_a_server_with_its_own_ca_is_trusted_by_that_ca_alone(tmp_path: Path) -> None:
    signed = SelfSigned.make(tmp_path)
    with served(answer(200), tls=signed) as url:
        with pytest.raises(Refused, match=r"TLS with Prometheus failed \(self.signed certificate\)"):
            asked(url)
        assert asked(url, ca_file=str(signed.certificate)) == []
        assert asked(url, verify=False) == []


def test_a_ca_or_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with served(answer(200)) as url, pytest.raises(Refused, match=r"bearer token .* No such file or directory: .*gone"):
        asked(url, bearer_token_file=gone)
    with pytest.raises(Unreadable, match="gone"):
        asked("https://127.0.0.1:1", ca_file=gone)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "prometheus:9090"}, "http:// or https://"),
        ({"url": "http://u:p@prometheus"}, "holds a user name"),
        ({"url": "http://p", "bearer_token": "a", "username": "b", "password": "c"}, "give one of"),
        ({"url": "http://p", "username": "b"}, "needs a user name and a password"),
        ({"url": "https://p", "ca_file": "f", "verify": False}, "verifying is off"),
        ({"url": "http://p", "timeout_s": 0}, "time limit is 0 s"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Connection(**settings)
    assert "u:p" not in str(caught.value)
