"""The machine that stands in for an older CPU shows HAQA, torch and oneDNN the same one."""

from __future__ import annotations

from types import ModuleType

import pytest
from tests.older_cpu.older_cpu import ASKED, WIDENING, answer_as
from tests.older_cpu.run import OLDER_CPUS

from haqa_operator.hardware import instruction_sets
from haqa_operator.hardware.instruction_sets import from_flags, onednn_cap

NEWEST = (
    "processor\t: 0\nflags\t\t: fma avx2 avx512f avx512bw avx512vl avx512dq avx512cd avx_vnni avx512_vnni "
    "avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8\nbogomips\t: 4000.00\n"
)


@pytest.mark.parametrize("isa", OLDER_CPUS)
def test_flags_and_caps_are_those_of_one_cpu(isa: str) -> None:
    lines = OLDER_CPUS[isa].cpuinfo(NEWEST).splitlines()
    assert from_flags(lines[1].partition(":")[2].split()) == isa
    assert onednn_cap(OLDER_CPUS[isa].variables["ONEDNN_MAX_CPU_ISA"]) == isa
    assert (lines[0], lines[2]) == ("processor\t: 0", "bogomips\t: 4000.00")


@pytest.mark.parametrize("isa", WIDENING)
def test_torch_denies_what_is_wider_and_nothing_else(isa: str) -> None:
    cpu = ModuleType("torch.cpu")
    for name in ASKED:
        setattr(cpu, name, lambda: True)
    answer_as(cpu, isa)
    has = {needed for name, needed in ASKED.items() if getattr(cpu, name)()}
    assert has == set(WIDENING[1 : WIDENING.index(isa) + 1]) & set(ASKED.values())


def test_its_order_of_instruction_sets_is_haqas() -> None:
    assert WIDENING == instruction_sets.WIDENING
