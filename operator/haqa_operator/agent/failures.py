"""What an exception out of litellm means: a sentence for people, and whether another attempt may help.

litellm turns every provider's failures into subclasses of OpenAI's exceptions with a status code, some of them made up
(500 for a reply that is not JSON). What really happened is in the chain of causes underneath.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

import httpx

from haqa_operator.agent.lengths import too_long
from haqa_operator.agent.quoting import quoted, redacted
from haqa_operator.agent.transport import Call, ReplyRefused, RequestRefused

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
    NO_ROOM = "no-room"
    BAD_REQUEST = "bad-request"


_LATER = frozenset({408, 409, 425})
"""Refusals that are none of the request: too slow, in another one's way, too early."""

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
    Kind.NO_ROOM: (
        "prompt and reply together are longer than the model can read ({words}); lower search.agent.maxTokens or use a "
        "model with a longer context"
    ),
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
    """Why one attempt gave no reply.

    Attributes:
        said: What the server said, as far as that is repeated; may be empty.
        parameter: The option of the request that it names as wrong, where it does so apart.
        room: Tokens that the prompt leaves for a reply, where the two together are too long for the model.
    """

    kind: Kind
    sentence: str
    retry_after_s: float | None = None
    said: str = ""
    parameter: str | None = None
    room: int | None = None

    @property
    def retryable(self) -> bool:
        return self.kind in _RETRYABLE


@dataclass(frozen=True)
class Lengths:
    """Tokens of a request: those that the reply was allowed, and about how many the prompt has."""

    reply: int
    prompt: int


def failure_of(error: BaseException, state: Call, *, timeout_s: float, lengths: Lengths) -> CallFailure:
    """The failure behind an exception.

    Args:
        state: What the transport saw of the request: status and words of the server's answer. Without an answer,
            litellm's own text is all there is.
        timeout_s: The time-out that applied, for the sentence.
    """
    chain = tuple(_chain(error))
    status = _status(error) if state.status is None else state.status
    said = state.error if state.error is not None else _own_words(error)
    kind = _kind(error, chain, status, said, made_up=state.status is None)
    length = None
    if kind in (Kind.TOO_LONG, Kind.BAD_REQUEST):
        length = too_long(said, lengths.reply, lengths.prompt)
    room = length.room if length else None
    if length is not None:
        kind = Kind.TOO_LONG if room is not None and room <= 0 else Kind.NO_ROOM
    words = quoted(redacted(_words(chain, kind, said), state.secret), 200)
    sentence = _SENTENCES[kind].format(timeout_s=timeout_s, status=status, words=words)
    return CallFailure(kind, sentence, _retry_after(error), said, state.parameter, room)


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


def _kind(error: BaseException, chain: tuple[BaseException, ...], status: int, said: str, *, made_up: bool) -> Kind:
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
    refusal = _refusal(error, status, said)
    if refusal is not None:
        return refusal
    failed = not made_up or any(isinstance(cause, httpx.HTTPStatusError) for cause in chain)
    return Kind.SERVER if failed else Kind.NOT_A_COMPLETION


def _refusal(error: BaseException, status: int, said: str) -> Kind | None:
    """What is wrong with the request, by the status; None where it is not the request's fault."""
    if status == 429:
        return Kind.QUOTA if "insufficient_quota" in f"{error} {said}" else Kind.BUSY
    if status == 402:
        return Kind.QUOTA
    if status in (401, 403) or _NO_CREDENTIAL.search(str(error)):
        return Kind.KEY
    if status == 404:
        # OpenRouter, where no provider of the model takes all that was sent.
        return Kind.BAD_REQUEST if "requested parameters" in said else Kind.UNKNOWN_MODEL
    if status == 413 or type(error).__name__ == "ContextWindowExceededError":
        return Kind.TOO_LONG
    if 400 <= status < 500 and status not in _LATER:
        return Kind.BAD_REQUEST
    return None


def _words(chain: tuple[BaseException, ...], kind: Kind, said: str) -> str:
    """What the server (or the network) said, without litellm's prefixes and tracebacks."""
    causes = _TELLING.get(kind)
    if causes is not None:
        deepest = [cause for cause in chain if isinstance(cause, causes) and str(cause)]
        return str(deepest[-1]) if deepest else type(chain[-1]).__name__
    if kind is Kind.NOT_A_COMPLETION:  # litellm quotes the body there
        return type(chain[-1]).__name__
    return said


def _own_words(error: BaseException) -> str:
    """litellm's words, where no answer of a server was seen."""
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
    """Seconds that the server asks to wait, also where it gives the time until which."""
    for source in (getattr(error, "litellm_response_headers", None), getattr(error, "headers", None)):
        value = source.get("retry-after") if isinstance(source, Mapping) else None
        seconds = None if value is None else _seconds(str(value))
        if seconds is not None and seconds >= 0:
            return seconds
    return None


def _seconds(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
