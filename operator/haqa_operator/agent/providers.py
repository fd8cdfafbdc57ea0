"""Where a request may go when endpoint or model are a tenant's choice.

litellm knows some 130 providers. Many read variables of the process (keys, organizations, addresses), find an identity
of the machine (AWS, Google Cloud), or send requests in ways of their own. Those listed here take one key, and all their
requests leave through the session of `transport`, which lets nothing else through; tests hold that for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from haqa_operator.agent.messages import LLMError
from haqa_operator.agent.quoting import plain
from haqa_operator.api.search_spec import AgentSpec

NO_KEY = "no-key"
"""Sent where there is none: litellm would look for one in the environment."""


@dataclass(frozen=True)
class Endpoint:
    """The one server that a request may go to, and the one key that it may carry."""

    base: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Provider:
    """Attributes:
    base: The provider's own address; None where there is none but `apiBase`.
    takes_client: litellm uses an HTTP client that it is given, and not a session, for this provider.
    """

    base: str | None = None
    takes_client: bool = False


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1"),
    "hosted_vllm": Provider(),
    "anthropic": Provider("https://api.anthropic.com", takes_client=True),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta", takes_client=True),
    "mistral": Provider("https://api.mistral.ai/v1"),
    "groq": Provider("https://api.groq.com/openai/v1"),
    "deepseek": Provider("https://api.deepseek.com/beta"),
    "openrouter": Provider("https://openrouter.ai/api/v1"),
    "together_ai": Provider("https://api.together.xyz/v1"),
    "xai": Provider("https://api.x.ai/v1"),
}


def provider_of(model: str) -> Provider | None:
    """By the prefix of litellm's name of a model; None for those that are not in the list."""
    return PROVIDERS.get(model.partition("/")[0]) if "/" in model else None


def _is_name(model: str) -> bool:
    """Whether the name stays a name where a provider makes it part of the address."""
    return model.isprintable() and not set(model) & set("?#%\\") and ".." not in model.split("/")


def endpoint_of(spec: AgentSpec, api_key: str | None, *, confined: bool) -> Endpoint | None:
    """The only place where requests of this agent may go; None where they are left to litellm.

    Args:
        confined: No variable of the process may be used, as in an operator.

    Raises:
        LLMError: the provider is none that can be kept to one endpoint and one key, or the model's name is none.
    """
    if spec.api_base is None and not confined:
        return None
    provider = provider_of(spec.model)
    if provider is None:
        where = "in a cluster" if confined else "with apiBase"
        raise LLMError(
            f"search.agent.model {spec.model}: {where} the provider is one of {', '.join(PROVIDERS)}; for another one "
            "write openai/NAME and give its OpenAI-compatible endpoint as apiBase"
        )
    if not _is_name(spec.model):
        raise LLMError(
            f"search.agent.model {plain(spec.model, 120)!r}: some providers put the name into the address; leave out "
            "?, #, %, \\, .. and characters that cannot be printed"
        )
    base = spec.api_base or provider.base
    if base is None:
        raise LLMError(f"search.agent.apiBase is missing; {spec.model} has no address of its own")
    if spec.api_base is None and api_key is None:
        raise LLMError(f"search.agent.secretRef is missing; name the Secret that has your key for {spec.model}")
    return Endpoint(base, api_key or NO_KEY)
