"""HAQA's feasibility table against vLLM's own selection: where they differ, and the reason on record for each."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from tests.upstream.questions import (
    DEVICES,
    FOLDER,
    MODELS,
    Device,
    Format,
    Model,
    layer_name,
    layers_asked,
    made_formats,
)

from haqa_contract import Configuration, Scheme, Workload
from haqa_operator.local.environments import PROJECT
from haqa_operator.search.artifact_policies import ARTIFACT_POLICIES, groups_divide_columns
from haqa_operator.search.cases import Case, first_violation
from haqa_operator.search.number_formats import FORMATS
from haqa_operator.search.requirements import product_bits
from haqa_operator.serving.versions import Version, dotted, parse_version

PYTHON = PROJECT / ".venvs" / "serving" / "bin" / "python"


class Served(StrEnum):
    """How a model is served in a format."""

    NOT = "not"
    """Or only emulated: dequantized in every product, which is slower than not quantizing"""
    WEIGHT_ONLY = "weight-only"
    SERVED = "served"
    """One or the other: Humming's kernels ask the driver while they load what to multiply in"""
    COMPUTED = "computed"
    """Products are computed in the format's own arithmetic"""

    def agrees_with(self, other: Served) -> bool:
        either = Served.SERVED in (self, other)
        return self is other or (either and Served.NOT not in (self, other))


@dataclass(frozen=True)
class Judged:
    """vLLM's verdict on a model.

    Attributes:
        because: The kernel of each kind of layer, or why there is none.
    """

    served: Served
    because: str


@dataclass(frozen=True)
class Difference:
    """HAQA and vLLM do not agree on one format of one model on one device."""

    device: str
    made: str
    model: str
    haqa: Served
    vllm: Served
    because: str

    def __str__(self) -> str:
        return f"{self.device}, {self.made}, {self.model}: HAQA {self.haqa}, vLLM {self.vllm} ({self.because})"


@dataclass(frozen=True)
class Reason:
    """Why HAQA differs from vLLM on purpose: one entry of differences.json.

    Attributes:
        devices, formats, models: What it is about; the empty list is everything.
        releases: In which it is so; the empty list is every one.
    """

    haqa: Served
    vllm: Served
    reason: str
    devices: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()

    def covers(self, found: Difference) -> bool:
        return (
            (self.haqa, self.vllm) == (found.haqa, found.vllm)
            and (not self.devices or found.device in self.devices)
            and (not self.formats or found.made in self.formats)
            and (not self.models or found.model in self.models)
        )


@cache
def reasons() -> tuple[Reason, ...]:
    lists = ("devices", "formats", "models", "releases")
    return tuple(
        Reason(
            Served(entry["haqa"]),
            Served(entry["vllm"]),
            entry["reason"],
            **{name: tuple(entry.get(name, ())) for name in lists},
        )
        for entry in json.loads((FOLDER / "differences.json").read_text())
    )


def recorded_answers() -> dict[str, dict[str, bool]]:
    """What the compiled code of the GPU wheels says; `make upstream` compares it with the wheel's."""
    read: dict[str, dict[str, bool]] = json.loads((FOLDER / "compiled.json").read_text())
    return read


def ask_vllm(
    devices: Iterable[Device] = DEVICES, tree: Path | None = None, driver: Path | None = None
) -> dict[str, Any]:
    """The answer of `judge.py`, of the vLLM that is installed or of one in a folder."""
    question = {
        "tree": os.fspath(tree) if tree else None,
        "driver": os.fspath(driver) if driver else None,
        "compiled": None if driver else recorded_answers(),
        "devices": [device.question() for device in devices],
        "layers": layers_asked(),
    }
    done = subprocess.run(
        [PYTHON, FOLDER / "judge.py"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(answer: Mapping[str, Any], devices: Iterable[Device] = DEVICES) -> list[Difference]:
    """Everything on which HAQA says otherwise than an engine of the answer's release would do."""
    version = parse_version(answer["version"])
    return [
        Difference(device.name, str(made), model.name, haqa, judged.served, judged.because)
        for device in devices
        for made in made_formats()
        for model in MODELS
        if (haqa := says_haqa(device, made, model, version)) is not None
        for judged in (says_vllm(answer["verdicts"][device.name], made, model),)
        if not haqa.agrees_with(judged.served)
    ]


def without_reason(found: Sequence[Difference], version: str) -> list[Difference]:
    known = [one for one in reasons() if _is_about(one, version)]
    return [difference for difference in found if not any(one.covers(difference) for one in known)]


def without_difference(found: Sequence[Difference], version: str) -> list[Reason]:
    """Reasons that nothing needs any more."""
    about = [one for one in reasons() if _is_about(one, version)]
    return [one for one in about if not any(one.covers(difference) for difference in found)]


def _is_about(reason: Reason, version: str) -> bool:
    return not reason.releases or dotted(parse_version(version)) in reason.releases


def says_haqa(device: Device, made: Format, model: Model, version: Version) -> Served | None:
    """HAQA's verdict; None where llm-compressor does not make the artifact anyway."""
    case = Case(
        device.accelerator,
        model.profile,
        Configuration.of(made.scheme, "rtn", made.group_size),
        Workload(),
        version,
    )
    if groups_divide_columns(case) is not None:
        return None
    if first_violation(case, ARTIFACT_POLICIES) is not None:
        return Served.NOT
    if product_bits(case.accelerator, made.scheme, version) == 16:
        return Served.WEIGHT_ONLY
    return Served.COMPUTED


def says_vllm(verdicts: Mapping[str, Mapping[str, str]], made: Format, model: Model) -> Judged:
    """vLLM's verdict on a model: that on the layer that fares worst."""
    layers = [verdicts[layer_name(made, layer)] for layer in model.layers()]
    judged = [_judged(verdict, made) for verdict in layers]
    worst = next(one for served in Served for one in judged if one.served is served)
    return worst


def _judged(verdict: Mapping[str, str], made: Format) -> Judged:
    if "refused" in verdict:
        return Judged(Served.NOT, verdict["refused"])
    kernel = verdict["kernel"]
    return Judged(_how(kernel, made), kernel)


_ROUNDED_ANYWAY = frozenset({Scheme.MXFP4A16})
"""vLLM's class for these weights asks for kernels that round activations, whatever the checkpoint says of them."""


def _how(kernel: str, made: Format) -> Served:
    """By the name of the kernel, which says what it multiplies."""
    chosen = kernel.partition("/")[2]
    if "Emulation" in chosen:
        return Served.NOT
    rounded = FORMATS[made.scheme].activation_bits < 16 or made.scheme in _ROUNDED_ANYWAY
    if not rounded or "Marlin" in chosen or "A16" in chosen or chosen.endswith(" in 16 bit"):
        return Served.WEIGHT_ONLY
    return Served.SERVED if "Humming" in chosen and " in " not in chosen else Served.COMPUTED


def lines(found: Iterable[Difference]) -> Iterator[str]:
    """Differences as a person reviews them: alike ones together."""
    alike: dict[tuple[str, str, Served, Served, str], list[str]] = {}
    for one in found:
        alike.setdefault((one.made, one.model, one.haqa, one.vllm, one.because[:160]), []).append(one.device)
    for (made, model, haqa, vllm, because), devices in alike.items():
        yield f"{made}, {model} on {', '.join(devices)}: HAQA {haqa}, vLLM {vllm} ({because})"
