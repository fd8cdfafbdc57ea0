"""Where the API key of an LLM may come from, and what else is in reach of the request.

On one machine a tuning belongs to whoever runs it, and so does the environment of the process. In a cluster the
operator's environment belongs to the installation while `apiBase` and `model` belong to a tenant: the key comes out of
the Secret that the tuning names, and there is nowhere else to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from haqa_operator.agent.messages import LLMError
from haqa_operator.api.pools import SecretKeyRef


class Credentials(Protocol):
    """What a tuning may authenticate with."""

    @property
    def confined(self) -> bool:
        """Whether the key alone may be used: no variable of the process may reach the endpoint."""

    def api_key(self, ref: SecretKeyRef | None) -> str | None:
        """The API key that the reference names; None where there is no reference.

        Raises:
            LLMError: there is no such key, or it is none that a request can carry.
        """


@dataclass(frozen=True)
class EnvironmentCredentials:
    """For `haqa tune`: the variables of the user's shell, in which litellm finds a provider's key itself."""

    variables: Mapping[str, str] = field(repr=False)
    confined = False

    def api_key(self, ref: SecretKeyRef | None) -> str | None:
        if ref is None or ref.env is None:
            return None
        where = "search.agent.secretRef.env"
        key = self.variables.get(ref.env, "").strip()
        if not key:
            raise LLMError(f"{where}: the environment variable {ref.env} is not set; export it")
        return _checked(key, f"{where}: the environment variable {ref.env}")


@dataclass(frozen=True)
class SecretCredentials:
    """For the operator: the key out of the Secret that the tuning names; None where it is not there or not text."""

    key: str | None = field(repr=False)
    confined = True

    def api_key(self, ref: SecretKeyRef | None) -> str | None:
        if ref is None:
            return None
        where = f"spec.search.agent.secretRef: Secret {ref.name}"
        key = (self.key or "").strip()
        if not key:
            raise LLMError(f"{where} has no key {ref.key}; create it in the tuning's namespace")
        return _checked(key, f"{where}, key {ref.key}")


def _checked(key: str, where: str) -> str:
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise LLMError(f"{where} holds more than one line or characters that no HTTP header has; store the key alone")
    return key
