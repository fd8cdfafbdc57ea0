"""What makes numbers incomparable starts a run of its own, and what does not leaves an earlier run where it is."""

from dataclasses import replace
from typing import Any

import pytest
from tests.builders import make_tuning

from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.tuning.fingerprint import fingerprint

CPU = Accelerator(Vendor.CPU, "Xeon", memory_gib=64, isa="avx512_vnni", cores=16)


def printed(**fields: Any) -> str:
    spec = make_tuning().having(**fields).obj().spec
    return fingerprint(spec, spec.node_pools[0], CPU, "files-1", "0.32.0")


@pytest.mark.parametrize(
    "fields",
    [
        {"workload": {"inputTokens": 100}},
        {"evaluation": {"samples": 8}},
        {"calibration": {"samples": 8}},
        {"search": {"fixedEngine": {"enforce-eager": True}}},
        {"serving": {"maxModelLen": 4096}},
        {"search": {"quantizeHead": True}},
    ],
)
def test_what_numbers_depend_on_starts_a_new_run(fields: dict[str, Any]) -> None:
    assert printed(**fields) != printed()


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": {"maxTrials": 3}},
        {"constraints": [{"metric": "perplexity", "maxDegradationPercent": 3}]},
        {"search": {"engine": {"max-num-seqs": [64, 256]}}},
        {"serving": {}},
    ],
)
def test_what_numbers_do_not_depend_on_goes_on_with_the_run(fields: dict[str, Any]) -> None:
    assert printed(**fields) == printed()


def test_adapters_and_what_they_hold_are_part_of_what_is_measured() -> None:
    spec = make_tuning().obj().spec
    with_adapters = [
        fingerprint(spec, spec.node_pools[0], CPU, "files-1", "0.32.0", adapters)
        for adapters in ({}, {"sql": "commit-1"}, {"sql": "commit-2"}, {"chat": "commit-1"})
    ]
    assert with_adapters[0] == printed()
    assert len(set(with_adapters)) == 4


def test_results_from_before_serving_was_a_field_are_still_found() -> None:
    assert printed() == "df323762c3a3"


def test_a_cap_of_onednn_is_another_machine() -> None:
    spec = make_tuning().obj().spec
    capped = fingerprint(spec, spec.node_pools[0], replace(CPU, onednn_cap="avx2"), "files-1", "0.32.0")
    assert capped != printed()


def test_results_of_a_capped_pool_from_before_the_cap_was_told_apart_are_still_found() -> None:
    spec = make_tuning().obj().spec
    before = fingerprint(spec, spec.node_pools[0], replace(CPU, isa="avx2"), "files-1", "0.32.0")
    assert fingerprint(spec, spec.node_pools[0], replace(CPU, onednn_cap="avx2"), "files-1", "0.32.0") == before


def test_two_lengths_are_two_runs() -> None:
    assert printed(serving={"maxModelLen": 4096}) != printed(serving={"maxModelLen": 8192})
