"""Pull requests on GitHub, GitLab and Gitea or Forgejo: one module for each API, and what they share."""

from __future__ import annotations

from haqa_operator.api.git_output import GitOutput, GitProvider
from haqa_operator.gitops.forges.pull_requests import Forge
from haqa_operator.gitops.publications import GitCredentials, PublishError
from haqa_operator.gitops.targets import forge_address

__all__ = ["Forge", "forge_for"]


def forge_for(output: GitOutput, credentials: GitCredentials, bundle: str) -> Forge:
    """The client of the API that `output.git.pullRequest` names.

    Args:
        bundle: File with the certificates that are trusted.

    Raises:
        PublishError: there is nothing to authenticate with.
    """
    address = forge_address(output)
    token = credentials.api_token
    if token is None:
        raise PublishError(
            f"spec.output.git.secretRef: Secret {credentials.secret} has no key token, which pull requests on "
            f"{address.provider} need; add one"
        )
    # Only what is used is imported: each client takes its time.
    if address.provider is GitProvider.GITHUB:
        from haqa_operator.gitops.forges.github import GitHubForge

        return GitHubForge(address, token, bundle)
    if address.provider is GitProvider.GITLAB:
        from haqa_operator.gitops.forges.gitlab import GitLabForge

        return GitLabForge(address, token, bundle)
    from haqa_operator.gitops.forges.gitea import GiteaForge

    return GiteaForge(address, token, bundle)
