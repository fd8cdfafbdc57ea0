import pytest

from haqa_operator.api.pools import NodePool
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.images import (
    NoOfficialImageError,
    OldEngineError,
    engine_image,
    pool_engine,
    pool_image,
    version_in,
)

L40S = Accelerator(vendor=Vendor.NVIDIA, product="NVIDIA-L40S")


def pool(image: str | None = None, engine_version: str | None = None) -> NodePool:
    return NodePool(name="a", image=image, engine_version=engine_version)


@pytest.mark.parametrize(
    ("vendor", "image"),
    [
        (Vendor.NVIDIA, "vllm/vllm-openai:v0.32.0"),
        (Vendor.AMD, "vllm/vllm-openai-rocm:v0.32.0"),
        (Vendor.INTEL, "vllm/vllm-openai-xpu:v0.32.0"),
        (Vendor.CPU, "vllm/vllm-openai-cpu:v0.32.0"),
    ],
)
def test_official_image_by_hardware(vendor: Vendor, image: str) -> None:
    assert engine_image(Accelerator(vendor=vendor, product="any")) == image


def test_gaudi_has_no_image_by_default_and_says_which_field_to_set() -> None:
    with pytest.raises(NoOfficialImageError, match=r"nodePools\[\]\.image is missing: HL-225 Gaudi2 needs"):
        engine_image(Accelerator(vendor=Vendor.INTEL, product="HL-225 Gaudi2"))


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.32.0", "0.32.0"),
        ("vllm/vllm-openai:v0.32.0-cu129", "0.32.0"),
        ("registry.local:5000/mirror/vllm-openai:0.27.1-aarch64", "0.27.1"),
        ("vllm/vllm-openai:v0.32.0@sha256:" + "0" * 64, "0.32.0"),
        ("rocm/vllm:rocm7.0.0_vllm_0.11.2_20251210", "0.11.2"),
        ("public.ecr.aws/deep-learning/vllm:0.19.1-gpu-py312", "0.19.1"),
        ("vllm/vllm-openai:v0.32.0rc1", "0.32.0"),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai", None),
        ("vllm/vllm-openai@sha256:" + "0" * 64, None),
        ("vllm/vllm-openai:nightly-1a2b3c", None),
        ("nvcr.io/nvidia/vllm:26.01-py3", None),
        ("registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.2.2", None),
        ("vault.habana.ai/gaudi-docker/vllm-plugin:1.22.0-555", None),
        ("ghcr.io/us/llm-server:0.32.0", None),
        ("registry.local:5000/vllm", None),
        ("ghcr.io/us/vllm:build-10.0.32.0", None),
    ],
)
def test_version_in_an_image_s_tag(image: str, version: str | None) -> None:
    assert version_in(image) == version


def test_engine_of_a_pool_is_the_one_of_its_tag() -> None:
    found = pool_engine(pool("vllm/vllm-openai:v0.27.1"))
    assert (found.text, found.note) == ("0.27.1", None)
    assert pool_engine(pool(), "mirror/vllm-openai:v0.30.0").text == "0.30.0"
    assert pool_engine(pool("vllm/vllm-openai:v0.27.1"), "mirror/vllm-openai:v0.30.0").text == "0.27.1"
    assert (pool_engine(pool()).text, pool_engine(pool()).note) == ("0.32.0", None)


def test_engine_version_says_what_a_tag_does_not() -> None:
    assert pool_engine(pool("vllm/vllm-openai:latest", "0.33.0")).note is None
    assert pool_engine(pool("vllm/vllm-openai:latest", "0.33.0")).text == "0.33.0"
    assumed = pool_engine(pool("vllm/vllm-openai:latest"))
    assert assumed.text == "0.32.0"
    assert assumed.note == (
        'nodePools "a": nothing in vllm/vllm-openai:latest says which vLLM it is, so 0.32.0 is assumed; set '
        "engineVersion to what it is"
    )


def test_engine_version_counts_before_the_tag_and_says_so() -> None:
    found = pool_engine(pool("us/vllm:0.1.7", "0.33.0"))
    assert found.text == "0.33.0"
    assert found.note == 'nodePools "a": engineVersion 0.33.0 is taken, though us/vllm:0.1.7 looks like 0.1.7'


def test_engine_version_alone_chooses_the_official_image() -> None:
    chosen = pool(engine_version="0.33.0")
    assert pool_image(chosen, L40S, pool_engine(chosen).text) == "vllm/vllm-openai:v0.33.0"
    assert pool_image(chosen, L40S, "0.33.0", "mirror/vllm:1") == "mirror/vllm:1"


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.10.2", "vllm/vllm-openai:v0.6.3.post1"])
def test_an_engine_below_the_oldest_is_refused_with_what_to_do(image: str) -> None:
    with pytest.raises(OldEngineError, match=r"HAQA needs 0\.11\.0 or newer; take a newer image, or set engineVersion"):
        pool_engine(pool(image))


def test_an_engine_after_the_newest_is_taken_for_that_one() -> None:
    found = pool_engine(pool("vllm/vllm-openai:v0.41.0"))
    assert found.text == "0.41.0"
    assert "HAQA knows none after 0.33.0" in (found.note or "")
