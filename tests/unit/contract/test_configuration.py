"""How a configuration reads."""

from __future__ import annotations

import pytest

from haqa_contract import Algorithm, Configuration, Scalar, Scheme


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so.4"),
        ("/usr/lib/a.so:/opt/venv/lib/libiomp5.so", "a.so:libiomp5.so"),
        ("0-1", "0-1"),
        ("a:b", "a:b"),
        ("/a.so:b", "/a.so:b"),
        ("", ""),
        (64, "64"),
        (True, "True"),
    ],
)
def test_paths_are_named_without_their_folders(value: Scalar, text: str) -> None:
    configuration = Configuration.of(Scheme.BF16, Algorithm.NONE, None, LD_PRELOAD=value)
    assert configuration.describe() == f"BF16, LD_PRELOAD={text}"
