"""A full disk is recognised in whatever form libraries report it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.disk import disk_full, free_bytes, is_disk_full, require_space, size_text


def chained(error: Exception) -> Exception:
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("while saving") from inner
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, "x"), False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("shape mismatch"), False),
        (chained(OSError(errno.ENOSPC, "x")), True),
        (chained(ValueError("x")), False),
        (None, False),
    ],
)
def test_full_disk_is_recognised(error: Exception | None, full: bool) -> None:
    assert is_disk_full(error) is full


def test_space_is_asked_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
    require_space(tmp_path / "not" / "yet", 1, "a byte", FailureReason.MODEL_FETCH)


def test_too_little_space_names_path_purpose_and_figures(tmp_path: Path) -> None:
    with pytest.raises(TrialFailure) as raised:
        require_space(tmp_path, 2**60, "model x", FailureReason.MODEL_FETCH)
    assert raised.value.reason is FailureReason.MODEL_FETCH
    assert f"{tmp_path} has too little free space for model x: about" in raised.value.message
    assert f"({2**60} bytes) needed" in raised.value.message
    assert "point it to a larger volume" in raised.value.message


def test_unknown_need_is_not_made_up(tmp_path: Path) -> None:
    assert "for model x: more needed" in disk_full(tmp_path, None, "model x", FailureReason.MODEL_FETCH).message


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**21, "2.0 MiB"), (3 * 2**40, "3072.0 GiB")]
)
def test_sizes_read_like_sizes(count: int, text: str) -> None:
    assert size_text(count) == text
