"""Which image a pool's engines run from, and which vLLM is in it.

The official images, by vLLM's installation documents (docs.vllm.ai, "Installation", "Pre-built images"), at the version
that HAQA's settings and feasibility rules are made for, where nothing else is named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from haqa_operator.api.pools import NodePool
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.releases import known_releases, made_for, oldest_release
from haqa_operator.serving.versions import Version, dotted, parse_version

_RELEASE = re.compile(r"(?<![\d.])v?(0\.\d+\.\d+)(?!\.?\d)")
"""vLLM's own releases start with 0; a number that does not is that of a product which has vLLM in it."""


class NoOfficialImageError(ValueError):
    """There is no image that fits by itself; the message says which field to set."""


class OldEngineError(ValueError):
    """The engine is older than any that HAQA knows; the message says which field to set."""


@dataclass(frozen=True)
class EngineVersion:
    """vLLM's version in a pool, and what somebody should know about how it was found out.

    Attributes:
        text: For example `0.32.0`.
        note: One sentence; None where there is nothing to say.
    """

    text: str
    note: str | None = None


def pool_engine(pool: NodePool, default_image: str | None = None) -> EngineVersion:
    """Which vLLM a pool's engines are: `engineVersion`, or what the tag of its image says.

    Where neither says anything, the version that HAQA is made for is assumed, with a note.

    Args:
        default_image: What pools run from that name no image; None = the official one of the pool's version.

    Raises:
        OldEngineError
    """
    image = pool.image or default_image
    where = f'nodePools "{pool.name}"'
    read = version_in(image) if image else None
    given = pool.engine_version or read
    version = parse_version(given) if given else made_for()
    checked = check_engine(version, f"{where}: the engine" + (f" ({image})" if image else ""))
    if image and given is None:
        note = (
            f"{where}: nothing in {image} says which vLLM it is, so {dotted(version)} is assumed; set engineVersion "
            "to what it is"
        )
        return EngineVersion(dotted(version), note)
    if read and parse_version(read) != version:
        note = f"{where}: engineVersion {given} is taken, though {image} looks like {read}"
        return EngineVersion(dotted(version), note)
    return EngineVersion(dotted(version), checked)


def check_engine(version: Version, what: str) -> str | None:
    """What somebody should know about an engine of this version; None where there is nothing.

    Raises:
        OldEngineError
    """
    oldest, newest = oldest_release(), known_releases()[-1]
    if version < oldest:
        raise OldEngineError(
            f"{what} is vLLM {dotted(version)}, and HAQA needs {dotted(oldest)} or newer; take a newer image, or set "
            "engineVersion where the image is one"
        )
    if version[:2] > newest[:2]:
        return f"{what} is vLLM {dotted(version)}; HAQA knows none after {dotted(newest)} and takes it for that one"
    return None


def version_in(image: str) -> str | None:
    """The vLLM release that an image's name says it has; None where it says none.

    `vllm/vllm-openai:v0.32.0-cu129` and `rocm/vllm:rocm7.0_vllm_0.11.2` say one; a digest, `latest`, `nightly` and the
    numbers of other products do not, nor does a number where nothing is called vllm.
    """
    name, _, _ = image.partition("@")
    last = name.rpartition("/")[2]
    _, colon, tag = last.partition(":")
    if not colon or "vllm" not in name.lower():
        return None
    after = tag.lower().rpartition("vllm")[2]
    found = _RELEASE.search(after.lstrip("_-"))
    return found[1] if found else None


def pool_image(pool: NodePool, accelerator: Accelerator, version: str, default_image: str | None = None) -> str:
    """The image that a pool's engines run from.

    Args:
        version: Of `pool_engine`; the official image is of this one.

    Raises:
        NoOfficialImageError
    """
    return pool.image or default_image or engine_image(accelerator, version)


def engine_image(accelerator: Accelerator, version: str | None = None) -> str:
    """The official vLLM image for this hardware.

    Args:
        version: vLLM's; None = the one that HAQA is made for.

    Raises:
        NoOfficialImageError: for Gaudi, whose images are tied to the version of the driver on the node.
    """
    tag = f"v{version or dotted(made_for())}"
    match accelerator.vendor:
        case Vendor.NVIDIA:
            return f"vllm/vllm-openai:{tag}"
        case Vendor.AMD:
            return f"vllm/vllm-openai-rocm:{tag}"
        case Vendor.INTEL if is_gaudi(accelerator):
            raise NoOfficialImageError(
                f"nodePools[].image is missing: {accelerator.product} needs the image that fits the driver on its "
                "nodes; take the vllm-plugin image of that version from Intel's Gaudi registry"
            )
        case Vendor.INTEL:
            return f"vllm/vllm-openai-xpu:{tag}"
        case Vendor.CPU:
            # The tag without an architecture is a manifest of both.
            return f"vllm/vllm-openai-cpu:{tag}"


def is_gaudi(accelerator: Accelerator) -> bool:
    return accelerator.vendor is Vendor.INTEL and "gaudi" in accelerator.product.lower()
