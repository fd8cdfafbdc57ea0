"""`output.mode: Git`: a pool's winner as a commit or a pull request in the user's repository.

`apart.publish_apart` is what the operator calls, by `cluster.edges.publications`; `publishing.publish` is the same in
this process.
"""

from haqa_operator.gitops.publications import (
    FINAL,
    GitCredentials,
    Publication,
    Published,
    PublishError,
    PublishState,
)

__all__ = ["FINAL", "GitCredentials", "Publication", "PublishError", "PublishState", "Published"]
