"""How configurations are searched, and the LLM that proposes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator

from haqa_contract import MADE_ALGORITHMS, MADE_SCHEMES, Algorithm, Scalar, Scheme
from haqa_operator.api.base import Duration, ResourceModel
from haqa_operator.api.pools import SecretKeyRef


class SearchStrategy(StrEnum):
    HAQA = "haqa"
    """The agent and the surrogate together"""
    AGENT = "agent"
    """The agent alone"""
    BAYESIAN = "bayesian"
    """The surrogate alone: what it expects of each candidate, and how sure it is"""
    TPE = "tpe"
    """optuna's tree-structured Parzen estimator"""
    RANDOM = "random"
    GRID = "grid"


ENDPOINT = r"^https?://[^/?#@\s\\]+(/[^?#\s\\]*)?$"
"""An address that paths are appended to: a query would take them up, and a user's name and password are no address."""


def checked_endpoint(value: str | None, secret: str) -> str | None:
    """The address of an API as it is.

    Args:
        secret: What belongs into secretRef and not into an address, for a sentence.

    Raises:
        ValueError
    """
    if value is None or re.fullmatch(ENDPOINT, value):
        return value
    if "@" in value.partition("://")[2].partition("/")[0]:  # not repeated: it may have a password
        raise ValueError(f"has a user's name before the host; give {secret} in secretRef")
    raise ValueError(
        f"{value!r} is not an endpoint; give http:// or https://, a host and at most a path, without ? and #"
    )


class Patience(StrEnum):
    """How little another trial may promise before the search ends."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    UNLIMITED = "unlimited"


class AgentSpec(ResourceModel):
    """The LLM that picks the next configuration."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """litellm's name of the model: openai/gpt-5, anthropic/claude-…, hosted_vllm/NAME"""
    api_base: Annotated[str | None, Field(max_length=1024)] = None
    """Endpoint of an OpenAI-compatible server: http or https, host and path; redirects are not followed"""
    secret_ref: SecretKeyRef | None = None
    """API key"""
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    """Randomness of the replies; 0 = as little as the model has. By default not sent, which leaves it to the server"""
    max_tokens: Annotated[int, Field(ge=64)] = 2048
    """Longest reply"""
    timeout: Duration = timedelta(seconds=120)
    """Longest wait for one reply"""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """More attempts after a 429, a 5xx or a time-out, with back-off"""
    notes: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], Field(max_length=20)] = ()
    """What the agent should know of the model, the hardware or the traffic, a sentence each"""

    @field_validator("api_base")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return checked_endpoint(value, "the key")


def _made(name: Scheme | Algorithm) -> Scheme | Algorithm:
    if name in (*MADE_SCHEMES, *MADE_ALGORITHMS):
        return name
    raise ValueError(f"{name.value} is of published checkpoints and nothing to make; name those in model.variants")


def _choices(names: Iterable[Scheme | Algorithm]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [name.value for name in names]})


MadeScheme = Annotated[Scheme, AfterValidator(_made), _choices(MADE_SCHEMES)]
MadeAlgorithm = Annotated[Algorithm, AfterValidator(_made), _choices(MADE_ALGORITHMS)]


class Search(ResourceModel):
    """How the next configuration is picked, and among which."""

    strategy: SearchStrategy = SearchStrategy.HAQA
    """Who picks the next configuration; without an agent configured, `haqa` and `agent` mean `bayesian`"""
    schemes: Annotated[tuple[MadeScheme, ...] | None, Field(max_length=64)] = None
    """Quantization schemes to consider; by default all that the hardware and vLLM can serve"""
    algorithms: Annotated[tuple[MadeAlgorithm, ...] | None, Field(max_length=32)] = None
    """Quantization algorithms to consider; by default rtn, gptq and smoothquant-gptq where they apply"""
    group_sizes: Annotated[tuple[Annotated[int, Field(ge=-1)], ...], Field(max_length=16)] = ()
    """Group sizes to consider for grouped schemes; by default the scheme's own, or the largest that fits all layers"""
    quantize_head: bool = False
    """Quantize the output head (lm_head) too, where the model has one of its own; by default it stays in 16 bit"""
    engine: Annotated[dict[str, Annotated[tuple[Scalar, ...], Field(max_length=512)]], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """vLLM settings and the values to consider, by command-line name (max-num-seqs: [64, 256]) or variable name"""
    engine_defaults: bool = True
    """Consider the settings that HAQA knows to matter on the platform, beside `engine` and `fixedEngine`"""
    fixed_engine: Annotated[dict[str, Scalar], Field(max_length=128)] = Field(default_factory=dict)
    """vLLM settings that every trial has, the baseline too"""
    agent: AgentSpec | None = None
    """The LLM, for strategy agent"""
    seed: int = 0
    """Same seed, same measurements: same proposals"""
    stop_after_no_improvement: Annotated[int | None, Field(ge=1)] = None
    """End after this many finished trials without a better one"""
    early_stopping: bool = True
    """End the load test of a trial that clearly cannot win, after a short look or some of its windows"""
    patience: Patience = Patience.NORMAL
    """How little another trial may promise before the search ends: docs/searching.md has the numbers"""
    min_improvement_percent: Annotated[float, Field(ge=0, le=100)] = 3.0
    """Smaller differences count as none, besides the measured noise; about what restarting the engine changes"""

    @field_validator("engine", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, values in value.items():
                if not isinstance(values, (list, tuple)) or not values:
                    raise ValueError(f"{name}: {values!r} is not a list of values; write {name}: [{values}]")
                if len({repr(v) for v in values}) != len(values):
                    raise ValueError(f"{name}: {values!r} has a value twice; leave each in once")
        return value

    @model_validator(mode="after")
    def _fixed_or_searched(self) -> Search:
        both = sorted(set(self.engine) & set(self.fixed_engine))
        if both:
            raise ValueError(f"{both[0]} is in engine and in fixedEngine; leave it in one of them")
        return self
