"""What an artifact is called, and what every store can do."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from haqa_contract import Algorithm, Scheme
from haqa_runner.progress import Phases, ProgressSink, no_progress

DEFAULT_WAIT_S = 7200.0


class CalibrationKey(BaseModel):
    """The calibration data that went into an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    """`datasets.fingerprint`: the URI and the state of its content"""
    samples: int
    sequence_length: int
    seed: int


class ArtifactKey(BaseModel):
    """Everything that decides an artifact's content: equal keys are the same artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_digest: str
    scheme: Scheme
    algorithm: Algorithm
    group_size: int | None = None
    kv_cache: str | None = None
    """Type of the KV cache that scales were calibrated for"""
    calibration: CalibrationKey | None = None
    """None where the algorithm looks at no data: then no calibration setting makes another artifact"""
    output_head: bool = False
    """The output head is quantized too"""
    prediction_layers: bool = False
    """Layers that guess further tokens are carried over"""
    recipe_version: int
    """Raised when this code makes something else of the same inputs"""
    tool_versions: dict[str, str]

    @property
    def digest(self) -> str:
        """The content address: sha256 over the canonical JSON, in hex."""
        # What came later counts where it says something, so that older artifacts keep their address.
        unsaid = {name for name in ("output_head", "prediction_layers") if not getattr(self, name)}
        canonical = json.dumps(self.model_dump(mode="json", exclude=unsaid), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class Artifact(BaseModel):
    """A complete, verified artifact on this machine."""

    model_config = ConfigDict(frozen=True)

    digest: str
    path: Path
    """The model folder, ready to be served"""
    size_bytes: int
    reused: bool
    """It was in the store already"""
    tool_versions: dict[str, str] = Field(default_factory=dict)
    """What it was made with"""


Build = Callable[[Path], None]
"""Fills an empty folder with the model."""


class ArtifactStore(ABC):
    """Artifacts by key."""

    @abstractmethod
    def check(self) -> None:
        """Raises TrialFailure, with what is to be corrected, unless artifacts can be kept here."""

    @abstractmethod
    def find(self, key: ArtifactKey, *, thorough: bool = False) -> Artifact | None:
        """The artifact if the store has it in good order; never a half-written or damaged one.

        Sizes are checked every time, checksums the first time that this machine reads the artifact and whenever
        `thorough`.
        """

    @abstractmethod
    def fetch(self, digest: str, phases: Phases, progress: ProgressSink = no_progress) -> Artifact:
        """The artifact by its content address alone, in good order.

        Raises:
            TrialFailure: ModelFetch: it is not there, or is damaged.
        """

    @abstractmethod
    def obtain(
        self,
        key: ArtifactKey,
        build: Build,
        *,
        estimate_bytes: int,
        phases: Phases,
        progress: ProgressSink = no_progress,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> Artifact:
        """The artifact; made by `build` if nobody has made it yet.

        Of several runners that ask at the same time one builds and the others wait for it, at most `wait_s`.

        Args:
            key: What is wanted.
            build: Called with an empty folder, at most once; what it leaves there is published if it returns.
            estimate_bytes: About how large the artifact will be; asked of the disk before `build` is called.
            phases: Told how long publishing took.
            progress: Told about waiting and copying.
            wait_s: Longest wait for another runner.

        Raises:
            TrialFailure: No space (QuantizationFailed), or waited in vain (Timeout). What `build` raises passes.
        """
