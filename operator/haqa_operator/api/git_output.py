"""`output.git`: the repository that a winner is written to, as what, and how it is proposed there.

Whatever is written here leaves the cluster as an address or a name in a repository, so each field takes only what can
be nothing else: no credentials in addresses, no path out of the repository, no name that a program takes for an option.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from haqa_operator.api.base import ResourceModel
from haqa_operator.api.search_spec import checked_endpoint

_HOST: Final = r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*@"
_STEP: Final = r"~?\.?[A-Za-z0-9_][A-Za-z0-9._+~%-]*"
REPOSITORY: Final = (
    rf"^(https?://{_HOST}(:[0-9]+)?(/{_STEP})+/?|ssh://({_USER})?{_HOST}(:[0-9]+)?(/{_STEP})+/?"
    rf"|{_USER}{_HOST}:/?{_STEP}(/{_STEP})*)$"
)
"""https:// and ssh:// with a host and a path, or git@host:path; a user's name with ssh alone, and never a password."""

_WORD: Final = r"[A-Za-z0-9_][A-Za-z0-9._+#=@-]*"
BRANCH: Final = rf"^{_WORD}(/{_WORD})*$"
NO_BRANCH: Final = r"(\.\.|\.lock(/|$)|\.(/|$))"
"""What git refuses in a branch's name besides."""

_POOL: Final = "{pool}"
_ENTRY: Final = r"\.?([A-Za-z0-9_@+=]|\{pool\})([A-Za-z0-9._@+=-]|\{pool\})*"
PATH: Final = rf"^(\.|{_ENTRY}(/{_ENTRY})*)$"
NO_PATH: Final = r"(?i)(^|/)\.git(/|$)"

_KEY: Final = r"[A-Za-z_][A-Za-z0-9_-]*(\[[0-9]+\])*"
VALUE: Final = rf"^{_KEY}(\.{_KEY})*$"
_NAME: Final = r"^[^<>\x00-\x1f]+$"


class GitFormat(StrEnum):
    """What is written to the repository."""

    PLAIN = "Plain"
    KUSTOMIZE = "Kustomize"
    HELM_VALUES = "HelmValues"


class GitProvider(StrEnum):
    """Whose API opens pull requests."""

    GITHUB = "GitHub"
    GITLAB = "GitLab"
    GITEA = "Gitea"
    FORGEJO = "Forgejo"


ValuePath = Annotated[str, Field(max_length=253)]


class GitValues(ResourceModel):
    """Which values of your own chart get what: dotted paths into the values file, as engine.args or models[0].env.

    What a field names is replaced, everything else in the file stays as it is, comments included. Replicas are yours.
    """

    image: ValuePath | None = None
    """Gets the whole image, repository:tag"""
    image_repository: ValuePath | None = None
    """Gets the image without its tag"""
    image_tag: ValuePath | None = None
    """Gets the image's tag, with its digest where it has one"""
    command: ValuePath | None = None
    """Gets the command, a list"""
    args: ValuePath | None = None
    """Gets the engine's arguments, a list"""
    env: ValuePath | None = None
    """Gets the environment, a list as in a container"""
    resources: ValuePath | None = None
    """Gets requests and limits"""
    node_selector: ValuePath | None = None
    """Gets the pool's node selector"""
    tolerations: ValuePath | None = None
    """Gets the pool's tolerations"""

    @field_validator("*")
    @classmethod
    def _dotted(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(VALUE, value):
            return value
        raise ValueError(f"{value!r} is not a path into a values file; write one like engine.args or models[0].env")

    @model_validator(mode="after")
    def _some_and_apart(self) -> GitValues:
        given = self.given
        if not given:
            raise ValueError("names no value; give at least one, for example args: engine.args")
        for field, path in given.items():
            for other, inside in given.items():
                if other != field and (inside == path or inside.startswith((f"{path}.", f"{path}["))):
                    raise ValueError(f"{field} {path} and {other} {inside} overlap; give each a place of its own")
        return self

    @property
    def given(self) -> dict[str, str]:
        """Field as it is written in YAML -> path."""
        return {name: path for name, path in self.model_dump(by_alias=True, exclude_none=True).items()}


class GitPullRequest(ResourceModel):
    """The pull request (GitLab: merge request) by which a winner is proposed."""

    provider: GitProvider
    """Whose API it is"""
    api_base: Annotated[str | None, Field(max_length=1024)] = None
    """Address of the API's server, for example https://git.example.com; by default that of `url`, over https. GitHub
    Enterprise: https://HOST/api/v3"""
    branch_prefix: Annotated[str, Field(max_length=100)] = "haqa/"
    """Begin of the name of the branches that HAQA makes, one for each answer"""
    title_prefix: Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f]*$")] = ""
    """Begin of titles and commit messages, for example `chore(models): `"""
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^,\x00-\x1f]+$")], ...],
        Field(max_length=16),
    ] = ()
    """Labels that it gets; made where they are missing"""
    draft: bool = False
    """Open it as a draft"""

    @field_validator("api_base")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return checked_endpoint(value, "the token")

    @field_validator("branch_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if re.fullmatch(BRANCH, f"{value}x") and not re.search(NO_BRANCH, f"{value}x"):
            return value
        raise ValueError(f"{value!r} begins no name of a branch; give one like haqa/ or bots/haqa-")


class GitSecretRef(ResourceModel):
    """A Secret in the tuning's namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Its keys: token; or username and password; or ssh-privatekey (with passphrase) and known_hosts, and token for
    pull requests; ca.crt, where a certificate authority of your own signed the server's certificate"""


class GitAuthor(ResourceModel):
    """Who commits."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_NAME)] = "HAQA"
    """Name in the commit"""
    email: Annotated[str, Field(min_length=1, max_length=254, pattern=_NAME)] = "haqa@localhost"
    """Address in the commit"""


class GitOutput(ResourceModel):
    """The repository that winners are written to."""

    url: Annotated[str, Field(max_length=1024)]
    """Address of the repository: https://host/owner/name.git, ssh://git@host/owner/name.git, git@host:owner/name.git"""
    branch: Annotated[str, Field(max_length=200)] = "main"
    """Branch that is written to, or that pull requests are for"""
    path: Annotated[str, Field(max_length=512)]
    """Folder in the repository that files go to, . = the root; for HelmValues the values file. {pool} stands for the
    pool's name"""
    format: GitFormat = GitFormat.PLAIN
    """Plain: the manifests. Kustomize: the manifests, and a kustomization.yaml that names them. HelmValues: your
    chart's values file, in which `values` are replaced"""
    values: GitValues | None = None
    """For HelmValues: which values get what"""
    pull_request: GitPullRequest | None = None
    """How a winner is proposed; by default it is pushed to `branch`"""
    secret_ref: GitSecretRef
    """Credentials, by reference"""
    author: GitAuthor = GitAuthor()
    """Who commits"""

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if re.fullmatch(REPOSITORY, value):
            return value
        scheme, _, rest = value.rpartition("://")
        user, at, _ = rest.partition("/")[0].rpartition("@")
        if at and (scheme in ("http", "https") or ":" in user):  # not repeated: it may have a password
            raise ValueError("has a user's name or a password before the host; give them in secretRef")
        raise ValueError(
            f"{value!r} is not the address of a repository; give https://host/owner/name.git or "
            "ssh://git@host/owner/name.git"
        )

    @field_validator("branch")
    @classmethod
    def _branch(cls, value: str) -> str:
        if re.fullmatch(BRANCH, value) and not re.search(NO_BRANCH, value):
            return value
        raise ValueError(f"{value!r} is not the name of a branch; give one like main or env/production")

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if re.fullmatch(PATH, value) and not re.search(NO_PATH, value):
            return value
        raise ValueError(f"{value!r} is not a path inside the repository; give one like apps/chat, without ..")

    @model_validator(mode="after")
    def _values_of_a_chart(self) -> GitOutput:
        helm = self.format is GitFormat.HELM_VALUES
        if helm and self.values is None:
            raise ValueError("values is missing; format HelmValues needs it, for example values: {args: engine.args}")
        if self.values is not None and not helm:
            raise ValueError(f"values is for format HelmValues, and format is {self.format}; leave it out")
        if helm and not self.path.endswith((".yaml", ".yml")):
            raise ValueError(
                f"path {self.path!r} is not a values file; format HelmValues needs one, such as values.yaml"
            )
        return self

    def for_pool(self, pool: str) -> GitOutput:
        """With the pool's name in the path."""
        return self.model_copy(update={"path": self.path.replace(_POOL, pool)})

    @property
    def one_for_each_pool(self) -> bool:
        """Whether pools would write over each other: manifests have names of their own, a values file has not."""
        return self.format is GitFormat.HELM_VALUES and _POOL not in self.path
