"""What an exception out of litellm means: a sentence for people, and whether another attempt may help.

litellm turns every provider's failures into subclasses of OpenAI's exceptions with a status code, some of them made up
(500 for a reply that is not JSON). What really happened is in the chain of causes underneath.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import httpx

from haqa_operator.agent.quoting import quoted, redacted
from haqa_operator.agent.transport import ReplyRefused, RequestRefused

_NO_CREDENTIAL = re.compile(r"(?i)missing .*(?:credential|api.?key)")
_PREFIX = re.compile(r"^(?:litellm\.)?(?:\w+(?:Error|Timeout|Exception)\b[\s:-]*(?:litellm\.)?)+")


class Kind(StrEnum):
    """What went wrong, as far as the remedy differs."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    QUOTA = "quota"
    SERVER = "server"
    REFUSED_REPLY = "refused-reply"
    REFUSED_REQUEST = "refused-request"
    NOT_A_COMPLETION = "not-a-completion"
    KEY = "key"
    UNKNOWN_MODEL = "unknown-model"
    TOO_LONG = "too-long"
    BAD_REQUEST = "bad-request"


_RETRYABLE = frozenset({Kind.TIMEOUT, Kind.UNREACHABLE, Kind.BUSY, Kind.SERVER})

_SENTENCES = {
    Kind.TIMEOUT: "no complete answer within {timeout_s:g} s; raise search.agent.timeout or check the server",
    Kind.UNREACHABLE: "cannot be reached ({words}); check search.agent.apiBase and that the server runs",
    Kind.BUSY: "is busy (HTTP 429: {words})",
    Kind.QUOTA: "says that the account's quota is used up ({words})",
    Kind.SERVER: "failed (HTTP {status}: {words})",
    Kind.REFUSED_REPLY: "sent something that is not read: {words}",
    Kind.REFUSED_REQUEST: "was not asked, since that takes {words}",
    Kind.NOT_A_COMPLETION: "gave no chat completion ({words}); check search.agent.apiBase and model",
    Kind.KEY: "the API key is missing or refused ({words}); check search.agent.secretRef",
    Kind.UNKNOWN_MODEL: "does not know it (HTTP 404: {words}); check search.agent.model and apiBase",
    Kind.TOO_LONG: "the prompt is longer than the model can read ({words}); use one with a longer context",
    Kind.BAD_REQUEST: "refused the request (HTTP {status}: {words})",
}


_TELLING: Mapping[Kind, tuple[type[BaseException], ...]] = {
    Kind.REFUSED_REPLY: (ReplyRefused, OSError),
    Kind.REFUSED_REQUEST: (RequestRefused,),
    Kind.UNREACHABLE: (OSError, httpx.TransportError),
}
"""The causes whose text says it."""


@dataclass(frozen=True)
class CallFailure:
    """Why one attempt gave no reply."""

    kind: Kind
    sentence: str
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        return self.kind in _RETRYABLE


def failure_of(
    error: BaseException,
    *,
    timeout_s: float,
    secret: str | None,
    answered: int | None = None,
    said: str | None = None,
) -> CallFailure:
    """The failure behind an exception.

    Args:
        timeout_s: The time-out that applied, for the sentence.
        secret: The API key, which error texts of some servers repeat.
        answered: The HTTP status that the server answered with, as far as the transport saw it.
        said: What an error of the server says, likewise; else litellm's own text is all there is.
    """
    chain = tuple(_chain(error))
    status = _status(error) if answered is None else answered
    kind = _kind(error, chain, status, made_up=answered is None)
    words = quoted(redacted(_words(error, chain, kind, said), secret), 200)
    sentence = _SENTENCES[kind].format(timeout_s=timeout_s, status=status, words=words)
    return CallFailure(kind, sentence, _retry_after(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _status(error: BaseException) -> int:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else 0


def _kind(error: BaseException, chain: tuple[BaseException, ...], status: int, *, made_up: bool) -> Kind:
    if any(isinstance(cause, ReplyRefused) for cause in chain):
        return Kind.REFUSED_REPLY
    if any(isinstance(cause, RequestRefused) for cause in chain):
        return Kind.REFUSED_REQUEST
    if any(isinstance(cause, TimeoutError | httpx.TimeoutException) for cause in chain):
        return Kind.TIMEOUT
    if any(isinstance(cause, httpx.TransportError | ConnectionError) for cause in chain):
        return Kind.UNREACHABLE
    if 200 <= status < 300:
        return Kind.NOT_A_COMPLETION
    refusal = _refusal(error, status)
    if refusal is not None:
        return refusal
    failed = not made_up or any(isinstance(cause, httpx.HTTPStatusError) for cause in chain)
    return Kind.SERVER if failed else Kind.NOT_A_COMPLETION


def _refusal(error: BaseException, status: int) -> Kind | None:
    """What is wrong with the request, by the status; None where it is not the request's fault."""
    if status == 429:
        return Kind.QUOTA if "insufficient_quota" in str(error) else Kind.BUSY
    if status in (401, 403) or _NO_CREDENTIAL.search(str(error)):
        return Kind.KEY
    if status == 404:
        return Kind.UNKNOWN_MODEL
    if type(error).__name__ == "ContextWindowExceededError":
        return Kind.TOO_LONG
    if 400 <= status < 500:
        return Kind.BAD_REQUEST
    return None


def _words(error: BaseException, chain: tuple[BaseException, ...], kind: Kind, said: str | None) -> str:
    """What the server (or the network) said, without litellm's prefixes and tracebacks."""
    causes = _TELLING.get(kind)
    if causes is not None:
        deepest = [cause for cause in chain if isinstance(cause, causes) and str(cause)]
        return str(deepest[-1]) if deepest else type(chain[-1]).__name__
    if kind is Kind.NOT_A_COMPLETION:  # litellm quotes the body there
        return type(chain[-1]).__name__
    if said is not None:
        return said
    text = _PREFIX.sub("", str(error).partition("Traceback")[0]).strip()
    return _message_in(text) or text or type(error).__name__


def _message_in(text: str) -> str | None:
    """The message of an OpenAI-style error body, which litellm hands on whole for some providers."""
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return message if isinstance(message, str) else None


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait, where it says so in seconds (dates are rare, and clocks differ)."""
    for source in (getattr(error, "litellm_response_headers", None), getattr(error, "headers", None)):
        value = source.get("retry-after") if isinstance(source, Mapping) else None
        try:
            seconds = float(value) if value is not None else -1.0
        except ValueError:
            continue
        if seconds >= 0:
            return seconds
    return None
