"""How queries reach Prometheus: with a deadline that holds, a bound on the answer, and errors by kind.

A socket's time limit starts anew with every byte, so an answer that drips is never late for it, and urllib3 obeys a
server's Retry-After of any length. Queries therefore run in a thread that is given up when its time is over, bodies are
read against a clock, and nothing is retried in here: a query changes nothing, so whoever waits for a scrape anyway asks
again (see `prometheus.read_serving_metrics`).
"""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from haqa_operator.metrics.prometheus_windows import Unreadable

MAX_ANSWER_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**16
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """Where Prometheus is, and who we are to it.

    Attributes:
        url: With the path it is served under, if any: https://prometheus.example/prometheus.
        bearer_token: The token itself.
        bearer_token_file: Read anew for every query, as tokens of service accounts are replaced while in use.
        username, password: Basic authentication.
        ca_file: Certificates to trust instead of the usual authorities.
        verify: False = the server's certificate is not looked at.
        timeout_s: For one query, from the connection to the last byte.
    """

    url: str
    bearer_token: str | None = field(default=None, repr=False)
    bearer_token_file: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    verify: bool = True
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the Prometheus URL has to be http:// or https:// with a host, as http://prometheus:9090")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "the Prometheus URL holds a user name, a query or a fragment; give user name and password by their own "
                "settings, and the address alone as the URL"
            )
        given = [self.bearer_token is not None, self.bearer_token_file is not None, self.username is not None]
        if sum(given) > 1:
            raise ValueError("give one of a bearer token, a bearer token file, and a user name for Prometheus")
        if (self.username is None) != (self.password is None):
            raise ValueError("basic authentication to Prometheus needs a user name and a password")
        if self.ca_file is not None and not self.verify:
            raise ValueError("a CA for Prometheus is given and verifying is off; leave one of the two out")
        if not 0 < self.timeout_s <= 300:
            raise ValueError(f"Prometheus' time limit is {self.timeout_s} s; give more than 0 and at most 300")


class Unreachable(Unreadable):
    """No usable answer, which may pass: no connection, a time limit, an error on the server's side."""

    lasting = False


class Refused(Unreadable):
    """An answer that will be the same the next time: not allowed in, not a Prometheus, not a valid query."""


class PrometheusHttp:
    """Instant queries to one Prometheus; may be used from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._base_url = connection.url.rstrip("/")

    def query(self, promql: str) -> Any:
        """The `result` of an instant query.

        Raises:
            Unreachable, Refused: see there; never later than the connection's `timeout_s`.
        """
        return within(self._connection.timeout_s, lambda: self._query(promql))

    def _query(self, promql: str) -> Any:
        # A session of its own: sessions are not safe across threads, and a given-up query may still use it.
        with _session(self._connection) as session:
            api = PrometheusConnect(url=self._base_url, session=session, timeout=self._connection.timeout_s)
            session.mount(self._base_url, _Adapter(self._connection.timeout_s))
            try:
                return api.custom_query(promql)
            except requests.exceptions.SSLError as error:
                raise Refused(f"TLS with Prometheus failed ({_cause(error)}); its CA belongs in ca_file") from error
            except requests.exceptions.Timeout as error:
                raise Unreachable(_too_late(self._connection.timeout_s)) from error
            except (requests.exceptions.JSONDecodeError, KeyError, TypeError) as error:
                raise Refused(
                    "something other than Prometheus' API answered; check the URL, its path, and whether a login page "
                    "stands in front"
                ) from error
            except requests.exceptions.TooManyRedirects as error:
                raise Refused("Prometheus' URL redirects in a circle; check its path") from error
            except (requests.exceptions.RequestException, OSError) as error:
                raise Unreachable(f"Prometheus cannot be reached ({_cause(error)})") from error


def within(seconds: float, work: Callable[[], T]) -> T:
    """Result of `work`, or Unreachable when the time is over; the thread is then left to its own end."""
    outcome: list[Callable[[], T]] = []

    def run() -> None:
        try:
            value = work()
            outcome.append(lambda: value)
        except BaseException as error:
            caught = error
            outcome.append(lambda: _raise(caught))

    thread = threading.Thread(target=run, name="haqa-prometheus", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise Unreachable(_too_late(seconds))
    return outcome[0]()


class _BearerFromFile(AuthBase):
    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Refused(f"the bearer token for Prometheus cannot be read: {error.strerror}: {self._path}") from error
        return _Bearer(token)(request)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token.strip()}"
        return request


class _Adapter(HTTPAdapter):
    """Reads an answer against the clock and up to a size, and turns a status into an error of our own."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(max_retries=Retry(total=0, redirect=False, respect_retry_after_header=False))
        self._timeout_s = timeout_s

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        deadline = time.monotonic() + self._timeout_s
        response = super().send(request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        body = _read(response, deadline)
        response.raw = io.BytesIO(body)
        if response.status_code >= 400:
            raise _refusal(response.status_code, body.decode("utf-8", "replace"))
        return response


def _read(response: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise Refused(f"Prometheus' answer is larger than {MAX_ANSWER_BYTES // 2**20} MiB")
        if time.monotonic() > deadline:
            response.close()
            raise requests.exceptions.ReadTimeout("the answer took too long")
    return bytes(body)


def _refusal(status: int, body: str) -> Unreadable:
    """What an HTTP status means for whoever waits. The body is Prometheus' own sentence, or a proxy's page."""
    found = re.search(r'"error"\s*:\s*"((?:[^"\\]|\\.){1,300})', body)
    said = f"HTTP {status}" + (f": {found[1]}" if found else "")
    if status in _WORTH_ANOTHER_TRY:
        return Unreachable(f"Prometheus answered {said}")
    if status == 401:
        return Refused(f"Prometheus refused the credentials ({said}); check the Secret with its token or password")
    if status == 403:
        return Refused(f"Prometheus does not allow these credentials to query it ({said})")
    if status == 404:
        return Refused(f"Prometheus' API is not at this URL ({said}); check the path it is served under")
    return Refused(f"Prometheus did not accept the query ({said})")


def _session(connection: Connection) -> requests.Session:
    session = requests.Session()
    # A .netrc entry would replace the token, and a proxy for the internet does not know the cluster's names.
    session.trust_env = False
    session.verify = connection.ca_file or connection.verify
    if connection.bearer_token is not None:
        session.auth = _Bearer(connection.bearer_token)
    elif connection.bearer_token_file is not None:
        session.auth = _BearerFromFile(connection.bearer_token_file)
    elif connection.username is not None and connection.password is not None:
        session.auth = HTTPBasicAuth(connection.username.encode(), connection.password.encode())
    return session


def _raise(error: BaseException) -> Any:
    raise error


def _too_late(seconds: float) -> str:
    return f"Prometheus did not answer within {seconds:g} s"


def _cause(error: BaseException) -> str:
    """The system's own words, without the objects' addresses that requests and urllib3 wrap around them."""
    at: BaseException | None = error
    said = str(error)[:200]
    while at is not None:
        if isinstance(at, OSError) and at.strerror:
            said = getattr(at, "verify_message", "") or at.strerror
        inner = getattr(at, "reason", None) or next((arg for arg in at.args if isinstance(arg, BaseException)), None)
        at = inner if isinstance(inner, BaseException) else at.__cause__ or at.__context__
    return said
