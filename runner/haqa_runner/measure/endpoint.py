"""The engine under test, as a client sees it: a base URL and a model's name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of

_HTTP_TIMEOUT_S = 30.0
_ERROR_LIMIT = 400


class EngineRefused(Exception):
    """The engine answered a request with an error; the text is the engine's own."""


@dataclass(frozen=True)
class Endpoint:
    """A served model.

    Attributes:
        base_url: Without path and slash at the end.
        model: Name that the engine serves it by.
        max_model_len: Longest prompt plus answer in tokens; None where the engine does not say.
        adapters: Names that requests of a load test take turns with, in the model's place.
    """

    base_url: str
    model: str
    max_model_len: int | None = None
    adapters: tuple[str, ...] = ()

    def through(self, adapter: str) -> Endpoint:
        """The same engine, asked through an adapter."""
        return replace(self, model=adapter, adapters=())

    def client(self, timeout_s: float = _HTTP_TIMEOUT_S) -> httpx.Client:
        """For plain requests; proxies of the environment are not used, the engine is next door."""
        return httpx.Client(base_url=self.base_url, timeout=timeout_s, trust_env=False)

    def complete(self, client: httpx.Client, **body: Any) -> dict[str, Any]:
        """One request to /v1/completions.

        Raises:
            EngineRefused: the engine answered with an error.
            TrialFailure: it did not answer.
        """
        try:
            response = client.post("/v1/completions", json={"model": self.model, **body})
        except httpx.HTTPError as error:
            raise TrialFailure(
                FailureReason.LOAD_ERRORS,
                f"the engine at {self.base_url} stopped answering ({cause_of(error)}); its log says why",
            ) from error
        if response.status_code != httpx.codes.OK:
            raise EngineRefused(f"HTTP {response.status_code}: {error_text(response)}")
        answer: dict[str, Any] = response.json()
        return answer


def keep_requests_out_of_the_log() -> None:
    """httpx logs a line for every request at level INFO; a load test has thousands."""
    logging.getLogger("httpx").setLevel(logging.WARNING)


def connect(base_url: str, model: str, adapters: Sequence[str] = ()) -> Endpoint:
    """The endpoint, after a look at what is served there.

    Args:
        adapters: Names of what has to be served beside the model.

    Raises:
        TrialFailure: nobody answers, or somebody who serves another model.
    """
    with Endpoint(base_url, model).client() as client:
        try:
            response = client.get("/v1/models").raise_for_status()
            models = {str(entry["id"]): entry for entry in response.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise TrialFailure(
                FailureReason.ENGINE_LOAD_FAILED,
                f"no engine answers at {base_url} ({cause_of(error)}); it has ended or listens elsewhere: see its log",
            ) from error
    if model not in models:
        raise TrialFailure(
            FailureReason.ENGINE_LOAD_FAILED,
            f"the server at {base_url} serves {', '.join(models) or 'no model'}, not {model}; another process has the "
            "engine's port",
        )
    if absent := [name for name in adapters if name not in models]:
        raise TrialFailure(
            FailureReason.ENGINE_LOAD_FAILED,
            f"the engine serves {', '.join(models)} and not the adapter {absent[0]}; its log says why it did not load",
        )
    longest = models[model].get("max_model_len")
    return Endpoint(base_url, model, int(longest) if longest else None, tuple(adapters))


def error_text(response: httpx.Response) -> str:
    """The engine's own words for an error, in at most a few lines."""
    try:
        error = response.json()
        message = error.get("error", error)
        text = message.get("message", message) if isinstance(message, dict) else message
    except (ValueError, AttributeError):
        text = response.text
    return " ".join(str(text).split())[:_ERROR_LIMIT] or response.reason_phrase
