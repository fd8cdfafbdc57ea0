"""`output.mode: Git`: a pool's winner as a commit or a pull request in the user's repository."""

from haqa_operator.gitops.publications import (
    FINAL,
    GitCredentials,
    Publication,
    Published,
    PublishError,
    PublishState,
)

__all__ = ["FINAL", "GitCredentials", "Publication", "PublishError", "PublishState", "Published"]
