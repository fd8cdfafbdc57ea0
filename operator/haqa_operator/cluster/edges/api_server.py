"""What the operator needs of the API server, whoever answers: the real one, or the tests' in memory.

Always the server's own state and never a cache's: a decision on what was true a moment ago starts a trial twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from haqa_operator.api.manifests import Manifest

FIELD_MANAGER = "haqa-operator"
FIRST_WRITER = "haqa-operator-creation"
"""Owns what is set once and then belongs to others: a Deployment's replicas, and whatever is only ever created."""


@dataclass(frozen=True)
class Kind:
    api_version: str
    kind: str

    @classmethod
    def of(cls, manifest: Manifest) -> Kind:
        return cls(manifest["apiVersion"], manifest["kind"])


TUNING = Kind("haqa.dev/v1alpha1", "QuantizationTuning")
TRIAL = Kind("haqa.dev/v1alpha1", "QuantizationTrial")
APPROVAL = Kind("haqa.dev/v1alpha1", "QuantizationApproval")
JOB = Kind("batch/v1", "Job")
POD = Kind("v1", "Pod")
NODE = Kind("v1", "Node")
DEPLOYMENT = Kind("apps/v1", "Deployment")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision")
SECRET = Kind("v1", "Secret")
CONFIG_MAP = Kind("v1", "ConfigMap")
EVENT = Kind("v1", "Event")
"""The older of the two kinds: `kubectl describe` sorts by its times."""


class ApiError(Exception):
    """A call was not carried out; the message is the API server's own sentence where there is one."""


class ApiUnavailable(ApiError):
    """Nobody answered, or the answer was to come back later: the same call may succeed in a moment."""


class UnknownKind(ApiUnavailable):
    """The API server does not know this kind of object, or not yet."""


class ApiRefused(ApiError):
    """The API server, or a webhook that it asked, will not do this as long as nobody changes something.

    Attributes:
        status: HTTP status of the answer: 400, 403, 422 and their like.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiServer(Protocol):
    """Reads and writes objects as JSON, each call with a time limit.

    Every method raises ApiUnavailable or ApiRefused, and nothing else that is not a bug.
    """

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        """None where there is none."""

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        """All objects that a label selector (equality and set-based) finds; cluster-wide without a namespace."""

    def apply(self, manifest: Manifest, manager: str = FIELD_MANAGER, *, force: bool = True) -> Manifest:
        """Server-side apply: makes the object, or changes what is the manager's of it; twice the same changes nothing.

        Without `force`, ApiUnavailable where a field would change that another manager owns.
        """

    def create(self, manifest: Manifest) -> Manifest | None:
        """None where it is there already."""

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        """Status alone; None where the object is gone."""

    def patch(self, manifest: Manifest, manager: str) -> Manifest | None:
        """Changes the fields that are given and leaves the others, None removes one; None where the object is gone.

        A JSON merge patch, so that what the manager has changed before stays. With `metadata.resourceVersion`,
        ApiUnavailable where somebody has written the object since.
        """

    def delete(self, kind: Kind, name: str, namespace: str) -> None:
        """With everything that it owns; harmless where it is gone."""

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> str:
        """The end of a container's log; empty where it is gone."""

    def latest_warning(self, namespace: str, uid: str) -> str | None:
        """What the last warning about an object says; None where there is none."""

    def user(self) -> str:
        """Who the caller is, as the API server calls them."""
