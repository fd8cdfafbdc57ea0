"""Where the API key comes from: one variable of one's own, or one key of one Secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from haqa_operator.agent.credentials import Credentials, EnvironmentCredentials, SecretCredentials
from haqa_operator.agent.messages import LLMError
from haqa_operator.api.pools import SecretKeyRef

SECRET = SecretKeyRef(name="llm", key="token", env="HAQA_PROMETHEUS_PASSWORD")


def test_the_key_comes_from_the_named_variable() -> None:
    credentials = EnvironmentCredentials({"LLM_KEY": " sk-1\n"})
    assert credentials.api_key(SecretKeyRef(name="llm", env="LLM_KEY")) == "sk-1"
    assert credentials.api_key(SecretKeyRef(name="llm")) is None
    assert credentials.api_key(None) is None


@pytest.mark.parametrize("env", [{}, {"LLM_KEY": ""}, {"LLM_KEY": "  "}])
def test_a_variable_that_is_not_set_is_named(env: dict[str, str]) -> None:
    with pytest.raises(LLMError, match=r"secretRef\.env: the environment variable LLM_KEY is not set"):
        EnvironmentCredentials(env).api_key(SecretKeyRef(name="llm", env="LLM_KEY"))


def test_in_a_cluster_the_key_comes_from_the_secret() -> None:
    assert SecretCredentials(" sk-1\n").api_key(SECRET) == "sk-1"
    assert SecretCredentials(None).api_key(None) is None


@pytest.mark.parametrize("key", [None, "", " \n"])
def test_in_a_cluster_a_missing_key_is_looked_for_nowhere_else(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAQA_PROMETHEUS_PASSWORD", "the-installations-own")
    with pytest.raises(LLMError, match=r"spec\.search\.agent\.secretRef: Secret llm has no key token; create it"):
        SecretCredentials(key).api_key(SECRET)


@pytest.mark.parametrize("key", ["sk-1\r\nX-Evil: 1", "two words", "schlüssel", "tab\there"])
@pytest.mark.parametrize(
    "make", [lambda key: EnvironmentCredentials({"HAQA_PROMETHEUS_PASSWORD": key}), SecretCredentials]
)
def test_a_key_that_no_header_can_carry_is_refused_without_being_repeated(
    key: str, make: Callable[[str], Credentials]
) -> None:
    with pytest.raises(LLMError, match="store the key alone") as caught:
        make(key).api_key(SECRET)
    assert key not in str(caught.value)


def test_a_key_is_not_shown_where_an_object_is_printed() -> None:
    assert "sk-1" not in repr((SecretCredentials("sk-1"), EnvironmentCredentials({"LLM_KEY": "sk-1"})))
