"""Where the API is, and what the repository is called there."""

from __future__ import annotations

import pytest
from tests.publications import output

from haqa_operator.gitops import PublishError
from haqa_operator.gitops.targets import forge_address, hosts


@pytest.mark.parametrize(
    ("provider", "url", "base", "address", "slug"),
    [
        ("GitHub", "https://github.com/team/clusters.git", None, "https://api.github.com", "team/clusters"),
        ("GitHub", "git@github.com:team/clusters.git", None, "https://api.github.com", "team/clusters"),
        ("GitHub", "https://ghe.example.com/team/clusters", None, "https://ghe.example.com/api/v3", "team/clusters"),
        ("GitHub", "https://ghe/team/clusters", "https://ghe/api/v3/", "https://ghe/api/v3", "team/clusters"),
        ("GitLab", "https://gitlab.com/a/b/c.git", None, "https://gitlab.com", "a/b/c"),
        ("GitLab", "https://host/gitlab/a/b.git", "https://host/gitlab", "https://host/gitlab", "a/b"),
        ("GitLab", "ssh://git@host:2222/a/b.git", None, "https://host", "a/b"),
        ("Gitea", "http://gitea.gitea:3000/team/clusters", None, "http://gitea.gitea:3000", "team/clusters"),
        ("Forgejo", "https://host:8443/team/clusters/", None, "https://host:8443", "team/clusters"),
    ],
)
def test_the_address_of_the_api_follows_from_the_repository(
    provider: str, url: str, base: str | None, address: str, slug: str
) -> None:
    found = forge_address(output(url, pullRequest={"provider": provider, "apiBase": base}))
    assert (found.base, found.slug) == (address, slug)


@pytest.mark.parametrize(
    ("provider", "url"),
    [("GitHub", "https://github.com/clusters"), ("Gitea", "https://host/a/b/c"), ("GitLab", "https://host/c.git")],
)
def test_an_address_that_a_forge_cannot_have_is_said(provider: str, url: str) -> None:
    with pytest.raises(PublishError, match=r"spec\.output\.git\.url: .* ends in owner/name there"):
        forge_address(output(url, pullRequest={"provider": provider}))


def test_whom_publishing_talks_to() -> None:
    asked = {"provider": "GitHub"}
    assert hosts(output("https://github.com/a/b")) == ("https://github.com",)
    assert hosts(output("git@github.com:a/b", pullRequest=asked)) == ("ssh://github.com", "https://api.github.com")
    assert hosts(output("http://host:3000/a/b", pullRequest={"provider": "Gitea"})) == ("http://host:3000",)
