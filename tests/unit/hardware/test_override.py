"""What a person says of a device goes before its labels, and lifts what would else hold."""

from __future__ import annotations

import pytest
from tests.optional import present
from tests.unit.search.builders import case, model

from haqa_contract import Scheme
from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.override import overridden
from haqa_operator.search.cases import first_violation
from haqa_operator.search.engine_policies import ENGINE_POLICIES
from haqa_operator.search.memory import memory_of
from haqa_operator.search.requirements import unmet
from haqa_operator.search.roofline import roofline_of
from haqa_operator.serving.versions import parse_version

L40S = Accelerator(Vendor.NVIDIA, "NVIDIA-L40S", memory_gib=45, compute_capability=(8, 9))
UNKNOWN = Accelerator(Vendor.NVIDIA, "NVIDIA-X9000")
V = parse_version("0.32.0")


def told(accelerator: Accelerator, **fields: object) -> Accelerator:
    return overridden(accelerator, HardwareOverride.model_validate(fields))


def test_without_an_override_the_catalogue_completes_what_labels_say() -> None:
    assert overridden(L40S, None).bandwidth_gb_s == 864


def test_another_product_takes_everything_that_follows_from_it_with_it() -> None:
    h100 = told(L40S, product="NVIDIA-H100-80GB-HBM3")
    assert (h100.compute_capability, h100.bandwidth_gb_s) == ((9, 0), 3350)
    assert present(h100.memory_gib) > 79
    assert present(h100.rates).bf16 == 989


def test_another_vendor_takes_it_with_it_too() -> None:
    found = told(L40S, vendor="amd", product="MI300X")
    assert (found.compute_capability, found.architecture, found.memory_gib) == (None, "gfx942", 192)


def test_compute_capability_lifts_what_formats_need() -> None:
    assert "needs compute capability" in present(unmet(told(L40S, computeCapability="7.0"), Scheme.FP8_DYNAMIC, V))
    assert unmet(told(L40S, computeCapability="9.0"), Scheme.FP8_DYNAMIC, V) is None


def test_architecture_lifts_what_formats_need_on_amd() -> None:
    unknown = Accelerator(Vendor.AMD, "AMD_Instinct_MI999")
    assert "does not know" in present(unmet(overridden(unknown, None), Scheme.FP8_DYNAMIC, V))
    assert unmet(told(unknown, architecture="gfx950"), Scheme.FP8_DYNAMIC, V) is None


def test_memory_lifts_what_does_not_fit() -> None:
    big = model(num_hidden_layers=400)

    def verdict(memory_gib: float) -> str | None:
        violation = first_violation(case(told(L40S, memoryGib=memory_gib), profile=big), ENGINE_POLICIES)
        return violation.reason if violation else None

    assert "NVIDIA-L40S's 45 GiB" in present(verdict(45))
    assert verdict(400) is None


def test_instruction_set_lifts_what_formats_need_on_a_cpu() -> None:
    old = Accelerator(Vendor.CPU, "Xeon", isa="avx2", memory_gib=64, cores=8)
    assert unmet(told(old), Scheme.W4A16, V) is not None
    assert unmet(told(old, isa="avx512_vnni"), Scheme.W4A16, V) is None


@pytest.mark.parametrize("missing", ["bandwidthGbS", "peakTflops"])
def test_order_and_bound_need_bandwidth_and_rates_of_a_device_that_nobody_knows(missing: str) -> None:
    known = {"memoryGib": 100, "bandwidthGbS": 2000, "peakTflops": {"bf16": 500, "fp8": 1000}}
    fields = {name: value for name, value in known.items() if name != missing}
    assert roofline_of(case(told(UNKNOWN, **fields), profile=model())) is None


def test_a_device_that_nobody_knows_works_with_a_full_override() -> None:
    device = told(
        UNKNOWN,
        memoryGib=100,
        computeCapability="9.0",
        bandwidthGbS=2000,
        peakTflops={"bf16": 500, "fp8": 1000},
    )
    assert unmet(device, Scheme.FP8_DYNAMIC, V) is None
    assert present(memory_of(case(device, profile=model()))).kv_gib > 60
    sixteen, eight = (present(roofline_of(case(device, scheme, profile=model()))) for scheme in ("BF16", "FP8-DYNAMIC"))
    assert (sixteen.bandwidth, sixteen.flops, eight.flops) == (2000e9, 500e12, 1000e12)
    # No rate of its own for INT8: it is computed as in 16 bit.
    assert present(roofline_of(case(device, "W8A8-INT8", profile=model()))).flops == 500e12


def test_rates_that_are_given_leave_those_of_the_catalogue_where_there_are_none() -> None:
    rates = present(told(L40S, peakTflops={"bf16": 100}).rates)
    assert (rates.bf16, rates.int8) == (100, 733)


def test_a_part_may_be_named_by_hand() -> None:
    slice_ = told(L40S, product="NVIDIA-A100-SXM4-40GB-MIG-3g.20gb")
    assert slice_.memory_gib == pytest.approx(19)
    assert present(slice_.rates).bf16 == pytest.approx(312 * 3 / 7)
    assert slice_.bandwidth_gb_s == pytest.approx(1555 / 2)
