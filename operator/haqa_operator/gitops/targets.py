"""Addresses of the repository and of the API that opens pull requests, out of the spec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from haqa_operator.api.git_output import GitOutput, GitProvider
from haqa_operator.gitops.publications import PublishError

_SCP: Final = re.compile(r"(?P<user>[^@/]+)@(?P<host>\[[^\]]+\]|[^:/]+):(?P<path>.+)")
_GITHUB_API: Final = "https://api.github.com"


@dataclass(frozen=True)
class RepositoryAddress:
    """Attributes:
    scheme: http, https or ssh.
    username: In an ssh address; None where it names none.
    path: As the server takes it.
    """

    scheme: str
    host: str
    port: int | None
    username: str | None
    path: str

    @classmethod
    def parse(cls, url: str) -> RepositoryAddress:
        """Of an address that the spec accepts."""
        if scp := _SCP.fullmatch(url):
            return cls("ssh", scp["host"].strip("[]"), None, scp["user"], scp["path"])
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port, parts.username, parts.path)

    @property
    def slug(self) -> str:
        """owner/name, or group/subgroup/name."""
        return unquote(self.path).strip("/").removesuffix(".git")

    @property
    def origin(self) -> str:
        """What is shown of it in messages."""
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{self.host}{port}"


@dataclass(frozen=True)
class ForgeAddress:
    """Attributes:
    base: Where the API is, without its version for GitLab and Gitea.
    slug: The repository there.
    """

    provider: GitProvider
    base: str
    slug: str


def forge_address(output: GitOutput) -> ForgeAddress:
    """Raises PublishError: the repository's address names none that a forge could have."""
    assert output.pull_request is not None
    provider, base = output.pull_request.provider, output.pull_request.api_base
    repository = RepositoryAddress.parse(output.url)
    if base is None:
        base = _default_base(provider, repository)
    base = base.rstrip("/")
    slug = repository.slug
    # A forge below a path has it in front of the repository's too.
    if repository.scheme != "ssh" and (prefix := urlsplit(base).path.strip("/")) and slug.startswith(f"{prefix}/"):
        slug = slug.removeprefix(f"{prefix}/")
    steps = slug.split("/")
    if len(steps) < 2 or (len(steps) > 2 and provider is not GitProvider.GITLAB):
        raise PublishError(
            f"spec.output.git.url: {output.url} names no repository of {provider}; it ends in owner/name there"
        )
    return ForgeAddress(provider, base, slug)


def _default_base(provider: GitProvider, repository: RepositoryAddress) -> str:
    if provider is GitProvider.GITHUB:
        return _GITHUB_API if repository.host == "github.com" else f"https://{repository.host}/api/v3"
    return f"https://{repository.host}" if repository.scheme == "ssh" else repository.origin


def hosts(output: GitOutput) -> tuple[str, ...]:
    """Whom publishing talks to, as https://host:port: for installations that allow some and no others."""
    repository = RepositoryAddress.parse(output.url)
    asked = [repository.origin]
    if output.pull_request is not None:
        base = output.pull_request.api_base or _default_base(output.pull_request.provider, repository)
        parts = urlsplit(base)
        asked.append(f"{parts.scheme}://{parts.netloc}")
    return tuple(dict.fromkeys(asked))
