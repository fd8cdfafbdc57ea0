"""Published checkpoints as candidates: loaded where vLLM loads them, sized by their files, never made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.builders import make_tuning
from tests.unit.search.builders import LLAMA_8B, amd, case, cpu, gpu_of, model, nvidia

from haqa_contract import Algorithm, Configuration, Scheme, Workload
from haqa_contract.model_facts import CheckpointFormat
from haqa_operator.api.goals import Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.build import build_space
from haqa_operator.search.memory import memory_of
from haqa_operator.search.model_profile import ModelProfile, Published
from haqa_operator.search.published import why_not_loaded
from haqa_operator.search.space import SearchSpace
from haqa_operator.tuning.prompt_model import prompt_model

GIB = 2**30
GPTQ = CheckpointFormat(name="gptq 4 bit group 128", method="gptq", scheme=Scheme.W4A16, group_size=128)
AWQ = CheckpointFormat(name="awq 4 bit group 128", method="awq", scheme=Scheme.W4A16_ASYM, group_size=128)
NVFP4 = CheckpointFormat(name="ModelOpt NVFP4", method="modelopt", scheme=Scheme.NVFP4)
MODELOPT_FP8 = CheckpointFormat(name="ModelOpt FP8", method="modelopt", scheme=Scheme.FP8_DYNAMIC)
FP8_BLOCK = CheckpointFormat(name="fp8 with blocks of 128x128", method="fp8", scheme=Scheme.FP8_BLOCK)
FBGEMM = CheckpointFormat(name="fbgemm_fp8", method="fbgemm_fp8", scheme=Scheme.FP8_DYNAMIC)
MXFP4 = CheckpointFormat(name="mxfp4", method="mxfp4", scheme=Scheme.MXFP4A16)
BNB = CheckpointFormat(name="bitsandbytes 4 bit", method="bitsandbytes")
QUARK = CheckpointFormat(name="quark", method="quark")
UNNAMED = CheckpointFormat(name="scaled weights, by its tensors", method="")


def variant(label: str, found: CheckpointFormat | None, size_gib: float = 5.5) -> Published:
    return Published(f"{label}@abc", int(size_gib * GIB), found)


def with_variants(*variants: Published) -> ModelProfile:
    return replace(model(LLAMA_8B), variants=variants)


def quantized(found: CheckpointFormat, size_gib: float = 5.5) -> ModelProfile:
    facts = model(LLAMA_8B).facts
    return ModelProfile(facts.model_copy(update={"quantization": found, "weight_bytes": int(size_gib * GIB)}))


def space(accelerator: Accelerator, profile: ModelProfile, **search: Any) -> SearchSpace:
    search = {"engine_defaults": False, **search}
    return build_space(Search(**search), accelerator, profile, Workload(), "0.32.0", objective=Objective())


@pytest.mark.parametrize(
    ("accelerator", "found", "why"),
    [
        (nvidia("NVIDIA-L40S"), GPTQ, None),
        (nvidia("NVIDIA-L40S"), AWQ, None),
        (nvidia("NVIDIA-L40S"), NVFP4, None),
        (nvidia("NVIDIA-L40S"), MXFP4, None),
        (nvidia("Tesla-T4"), MXFP4, "mxfp4 needs compute capability 8.0 or more; Tesla-T4 has 7.5"),
        (nvidia("Tesla-T4"), FP8_BLOCK, None),
        (gpu_of(7, 0), FP8_BLOCK, "fp8 with blocks of 128x128 needs compute capability 7.5 or more; GPU has 7.0"),
        (nvidia("NVIDIA-L40S"), BNB, "vLLM 0.32.0 does not load bitsandbytes 4 bit (it has no loader bitsandbytes)"),
        (amd("MI300X"), MXFP4, None),
        (amd("MI300X"), NVFP4, "ModelOpt NVFP4 runs on the kernels of NVFP4: vLLM only emulates NVFP4 on AMD"),
        (amd("MI300X"), QUARK, None),
        (nvidia("NVIDIA-L40S"), UNNAMED, None),
        (cpu("avx512_vnni"), GPTQ, None),
        (cpu("avx2"), GPTQ, "runs on the kernels of W4A16: W4A16 needs AVX512"),
        (cpu("amx"), FP8_BLOCK, None),
        (cpu("amx"), MXFP4, None),
        (cpu("avx512_fp16"), MXFP4, "mxfp4: vLLM's kernel for it on CPUs needs AMX"),
        (cpu("avx512_vnni"), FP8_BLOCK, "FP8-BLOCK needs AMX"),
        (cpu("amx"), MODELOPT_FP8, "no kernel for CPUs that rounds to FP8 with one scale a tensor"),
    ],
    ids=lambda value: getattr(value, "product", getattr(value, "name", "")),
)
def test_loaded_is_what_vllm_loads(accelerator: Accelerator, found: CheckpointFormat, why: str | None) -> None:
    reason = why_not_loaded(accelerator, found, (0, 32, 0))
    assert reason is None if why is None else why in (reason or "")


def test_variants_are_candidates_beside_what_is_made() -> None:
    found = space(nvidia("NVIDIA-L40S"), with_variants(variant("gptq", GPTQ)), schemes=("BF16", "FP8-DYNAMIC"))
    published = Configuration(scheme=Scheme.W4A16, algorithm=Algorithm.PUBLISHED, group_size=128, variant="gptq@abc")
    assert set(found.candidates) == {published, Configuration.of("FP8-DYNAMIC", "rtn")}
    assert found.baseline == Configuration()
    assert found.variants == {"gptq@abc"}
    assert published.describe() == "W4A16/published g128 (gptq)"


def test_variant_that_is_not_loaded_is_on_record() -> None:
    found = space(nvidia("NVIDIA-L40S"), with_variants(variant("bnb", BNB)), schemes=("BF16", "FP8-DYNAMIC"))
    (exclusion,) = found.exclusions
    assert exclusion.parameters == {"variant": "bnb@abc"}
    assert exclusion.reason.startswith("model.variants bnb: vLLM 0.32.0 does not load bitsandbytes")


def test_a_loader_that_is_about_to_go_has_to_be_allowed() -> None:
    profile = with_variants(variant("fbgemm", FBGEMM))
    (exclusion,) = space(nvidia("NVIDIA-L40S"), profile, schemes=("BF16", "FP8-DYNAMIC")).exclusions
    assert exclusion.reason.endswith("allow it with search.fixedEngine {allow-deprecated-quantization: true}")
    allowed = {"allow-deprecated-quantization": True}
    assert not space(nvidia("NVIDIA-L40S"), profile, schemes=("BF16",), fixed_engine=allowed).exclusions


def test_quantized_model_is_its_own_baseline_and_nothing_is_made_of_it() -> None:
    found = space(nvidia("NVIDIA-L40S"), quantized(FP8_BLOCK), engine={"max-num-seqs": (8, 16)})
    assert found.baseline == Configuration(scheme=Scheme.FP8_BLOCK, algorithm=Algorithm.PUBLISHED)
    assert {candidate.algorithm for candidate in found.candidates} == {Algorithm.PUBLISHED}
    assert [dict(candidate.engine) for candidate in found.candidates] == [{"max-num-seqs": 8}, {"max-num-seqs": 16}]
    assert any("the model is quantized already (fp8 with blocks of 128x128)" in note for note in found.notes)


def test_unquantized_variant_of_a_quantized_model_is_a_candidate() -> None:
    profile = replace(quantized(FP8_BLOCK, 8.5), variants=(variant("original", None, 16),))
    found = space(nvidia("NVIDIA-L40S"), profile)
    assert set(found.candidates) == {
        Configuration(scheme=Scheme.BF16, algorithm=Algorithm.PUBLISHED, variant="original@abc")
    }


def test_weights_are_as_large_as_the_files() -> None:
    profile = with_variants(variant("small", GPTQ, 5.5), variant("large", GPTQ, 40))
    for name, size_gib in (("small", 5.5), ("large", 40)):
        one = case(nvidia("NVIDIA-H100-80GB-HBM3"), "W4A16", "published", 128, profile=profile)
        one = replace(one, configuration=one.configuration.model_copy(update={"variant": f"{name}@abc"}))
        memory = memory_of(one)
        assert memory is not None
        assert memory.weights_gib == pytest.approx(size_gib)
    fits = space(nvidia("NVIDIA-L40S"), with_variants(variant("large", GPTQ, 60)), schemes=("BF16",))
    (exclusion,) = fits.exclusions
    assert exclusion.reason.startswith("model.variants large: weights under W4A16 take 60.0 GiB")
    assert exclusion.parameters == {"variant": "large@abc"}


def test_bound_follows_the_bytes_of_the_files_and_unknown_formats_have_none() -> None:
    profile = with_variants(variant("gptq", GPTQ, 5.5), variant("wide", GPTQ, 9), variant("quark", QUARK))
    found = space(nvidia("NVIDIA-L40S"), profile, schemes=("BF16",))
    by_label = {candidate.variant_label: found.bounds.get(candidate) for candidate in found.candidates}
    assert by_label["quark"] is None
    assert (by_label["gptq"] or 0) > (by_label["wide"] or 0) > 0


def test_published_integers_compute_in_16_bit() -> None:
    profile = with_variants(variant("awq", AWQ))
    found = space(nvidia("NVIDIA-L40S"), profile, schemes=("BF16",), engine={"dtype": ("float32",)})
    assert [candidate.variant_label for candidate in found.candidates] == [None]
    assert any("awq 4 bit group 128 computes in bfloat16 and float16" in one.reason for one in found.exclusions)


def test_notes_say_what_each_variant_is() -> None:
    profile = with_variants(variant("nvidia", NVFP4), variant("amd", QUARK), variant("twin", None, 15))
    notes = space(nvidia("NVIDIA-B200"), profile, schemes=("BF16", "NVFP4")).notes
    assert "model.variants nvidia is ModelOpt NVFP4, 5.5 GiB, computed like NVFP4" in notes
    assert "model.variants amd is quark, 5.5 GiB, in a format of its own" in notes
    assert "model.variants twin is not quantized, 15 GiB" in notes


def test_the_agent_sees_the_size_of_each_variant() -> None:
    profile = with_variants(variant("gptq", GPTQ, 5.5))
    found = space(nvidia("NVIDIA-L40S"), profile, schemes=("BF16", "W4A16"))
    weights = prompt_model(make_tuning().obj().spec, profile, found).weight_bytes
    assert weights["W4A16 variant=gptq@abc group-size=128"] == 5.5 * GIB


@pytest.mark.parametrize("predicted", [0, 1])
def test_guessing_layers_are_used_where_the_variant_has_them_itself(predicted: int) -> None:
    guessing = replace(variant("theirs", GPTQ), predicted_tokens=predicted)
    profile = ModelProfile(model(LLAMA_8B).facts.model_copy(update={"predicted_tokens": 1 - predicted}), (guessing,))

    found = space(nvidia("NVIDIA-L40S"), profile, engine_defaults=True, schemes=[Scheme.BF16])
    with_mtp = {c.variant_label for c in found.candidates if "mtp" in str(c.settings.get("speculative-config"))}
    assert with_mtp == ({"theirs"} if predicted else {None})
