"""The fuzzer's targets hold for their seeds, and for bytes at random; `make fuzz` looks further."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        target.check(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_bytes_at_random_are_read_or_refused(name: str, data: bytes) -> None:
    TARGETS[name].check(data)
