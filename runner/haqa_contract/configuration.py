"""What is served and how: one point of the search space."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from haqa_contract.base import Contract, Scalar


class Scheme(StrEnum):
    """Number formats of weights and activations, by llm-compressor's preset names where there is one."""

    BF16 = "BF16"
    """The unquantized model, in the type its checkpoint has."""
    W8A8_INT8 = "W8A8-INT8"
    W4A16 = "W4A16"
    W4A16_ASYM = "W4A16-ASYM"
    W8A16 = "W8A16"
    W4A8 = "W4A8"
    W4AFP8 = "W4AFP8"
    FP8_DYNAMIC = "FP8-DYNAMIC"
    FP8_BLOCK = "FP8-BLOCK"
    NVFP4 = "NVFP4"
    NVFP4A16 = "NVFP4A16"
    MXFP4 = "MXFP4"
    MXFP4A16 = "MXFP4A16"
    MXFP8 = "MXFP8"
    OTHER = "OTHER"
    """Only of published checkpoints: a format that is like none of these"""


class Algorithm(StrEnum):
    """How the quantized weights are found."""

    NONE = "none"
    """Only for the unquantized model."""
    RTN = "rtn"
    """Plain rounding to nearest; needs no calibration data for weight-only and dynamic schemes."""
    GPTQ = "gptq"
    AWQ = "awq"
    SMOOTHQUANT = "smoothquant"
    """SmoothQuant, then rounding."""
    SMOOTHQUANT_GPTQ = "smoothquant-gptq"
    AUTOROUND = "autoround"
    PUBLISHED = "published"
    """Nothing is quantized: the checkpoint is served as somebody has published it."""


MADE_SCHEMES: Final = tuple(scheme for scheme in Scheme if scheme is not Scheme.OTHER)
MADE_ALGORITHMS: Final = tuple(algorithm for algorithm in Algorithm if algorithm is not Algorithm.PUBLISHED)
"""What HAQA can be asked for."""


STATIC_ACTIVATIONS: Final = (Scheme.NVFP4,)
"""Schemes with a scale of the activations that calibration has to find, whatever rounds the weights."""

CALIBRATED_KV_CACHES: Final = ("fp8", "fp8_e4m3")
"""vLLM takes scales from a checkpoint for these; it refuses a checkpoint with scales for fp8_e5m2."""

OF_WEIGHTS: Final = ("scheme", "algorithm", "group-size", "variant")
"""Of a configuration's `parameters`, those that say which weights are served; the others are the engine's settings."""

_DIGEST_LENGTH = 12


def label_of(variant: str) -> str:
    """The label in what `variant_name` made."""
    return variant.partition("@")[0]


def variant_name(label: str, digest: str) -> str:
    """What `Configuration.variant` says of a checkpoint: its label and the beginning of its digest's hash."""
    return f"{label}@{digest.rpartition('-')[2][:_DIGEST_LENGTH]}"


class Configuration(Contract):
    """One point of the search space: what is served and how. Equal configurations are the same trial."""

    scheme: Scheme = Scheme.BF16
    """Number formats of weights and activations; BF16 = the unquantized model. Of a published checkpoint the one that
    the engine computes alike"""
    algorithm: Algorithm = Algorithm.NONE
    """How the quantized weights are found"""
    group_size: int | None = None
    """Weights that share one scale; none = the scheme's own"""
    variant: str | None = None
    """Checkpoint of `model.variants` that is served in place of the model: LABEL@DIGEST, so that a trial stays that of
    the files it was measured with"""
    engine: tuple[tuple[str, Scalar], ...] = ()
    """vLLM settings that differ from the defaults, sorted by name: command-line names without dashes in front (max-num-
    seqs), or environment variables (VLLM_CPU_OMP_THREADS_BIND)"""

    @property
    def settings(self) -> dict[str, Scalar]:
        return dict(self.engine)

    @property
    def quantized(self) -> bool:
        return self.scheme is not Scheme.BF16

    @property
    def made(self) -> bool:
        """An artifact has to be made; else a checkpoint is served as it is."""
        return self.algorithm not in (Algorithm.NONE, Algorithm.PUBLISHED)

    @property
    def calibrated(self) -> bool:
        """What is made depends on the calibration data; plain rounding of most schemes looks at none."""
        return self.made and (self.algorithm is not Algorithm.RTN or self.scheme in STATIC_ACTIVATIONS)

    @property
    def calibrated_kv_cache(self) -> str | None:
        """The KV cache type that scales are calibrated for, where there is a calibration at all."""
        wanted = str(self.settings.get("kv-cache-dtype", "auto"))
        return wanted if wanted in CALIBRATED_KV_CACHES and self.calibrated else None

    @property
    def variant_label(self) -> str | None:
        """As `model.variants` calls it."""
        return label_of(self.variant) if self.variant else None

    @property
    def parameters(self) -> dict[str, Scalar]:
        """The configuration as the search sees it: parameter name -> value, engine settings among them.

        A replayed table may bring schemes that HAQA does not make; they sit in `engine` under `scheme` and win here.
        """
        own: dict[str, Scalar] = {"scheme": self.scheme.value, "algorithm": self.algorithm.value}
        if self.group_size is not None:
            own["group-size"] = self.group_size
        if self.variant is not None:
            own["variant"] = self.variant
        return {**own, **self.settings}

    @classmethod
    def of(
        cls,
        scheme: Scheme | str = Scheme.BF16,
        algorithm: Algorithm | str = Algorithm.NONE,
        group_size: int | None = None,
        **engine: Scalar,
    ) -> Configuration:
        """For code and tests: engine settings as keywords, `_` for `-` in lower-case names."""
        named = {k if k.isupper() else k.replace("_", "-"): v for k, v in engine.items()}
        return cls(
            scheme=Scheme(scheme),
            algorithm=Algorithm(algorithm),
            group_size=group_size,
            engine=tuple(sorted(named.items())),
        )

    def describe(self) -> str:
        """Short text for tables and logs: `W4A16/gptq g128, max-num-seqs=64`, `NVFP4/published (nvidia)`."""
        head = self.scheme.value if self.algorithm is Algorithm.NONE else f"{self.scheme.value}/{self.algorithm.value}"
        if self.group_size is not None:
            head += f" g{self.group_size}"
        if self.variant is not None:
            head += f" ({self.variant_label})"
        return ", ".join([head, *(f"{name}={_short(value)}" for name, value in self.engine)])


def _short(value: Scalar) -> Scalar:
    """Without folders, for a value that is absolute paths."""
    paths = value.split(":") if isinstance(value, str) else []
    if not paths or not all(path.startswith("/") for path in paths):
        return value
    return ":".join(path.rsplit("/", 1)[-1] for path in paths)
