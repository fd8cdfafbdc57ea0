"""The catalogue has the releases of vLLM that pools may run, each whole."""

from itertools import pairwise

import pytest

from haqa_operator.serving.launch import DEFAULTS
from haqa_operator.serving.releases import (
    changed,
    difference,
    extracted,
    known_releases,
    made_for,
    nearest_release,
    oldest_release,
)
from haqa_operator.serving.settings import catalogue, check_settings, why_not_taken


def test_the_two_newest_releases_are_known_and_images_are_of_one_of_them() -> None:
    assert known_releases()[-2:] == ((0, 32, 0), (0, 33, 0))
    assert made_for() == (0, 32, 0)
    assert oldest_release() == (0, 11, 0)


def test_one_release_of_each_minor_version_without_a_gap() -> None:
    assert [release[1] for release in known_releases()] == list(range(11, 34))


@pytest.mark.parametrize(("before", "after"), list(pairwise(known_releases())))
def test_a_difference_makes_one_release_out_of_the_other(
    before: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    there, back = extracted(before), extracted(after)
    assert changed(there, difference(there, back)) == back
    assert changed(back, difference(back, there)) == there


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ((0, 32, 0), (0, 32, 0)),
        ((0, 25, 0), (0, 25, 1)),
        ((0, 33, 4), (0, 33, 0)),
        ((0, 40, 0), (0, 33, 0)),
        ((0, 11, 0), (0, 11, 2)),
        ((0, 9, 0), (0, 11, 2)),
    ],
)
def test_an_engine_takes_what_the_release_next_to_it_takes(
    version: tuple[int, int, int], known: tuple[int, int, int]
) -> None:
    assert nearest_release(version) == known


def test_a_setting_is_known_from_the_release_that_brought_it() -> None:
    assert "shutdown-timeout" not in catalogue((0, 17, 1)).settings
    assert "shutdown-timeout" in catalogue((0, 18, 0)).settings


@pytest.mark.parametrize("release", known_releases())
def test_every_release_has_what_haqa_cannot_do_without(release: tuple[int, int, int]) -> None:
    found = catalogue(release)
    optional = {"shutdown-timeout"}
    named = {default.name for default in DEFAULTS} - optional - found.variables - {"HF_HUB_OFFLINE"}
    assert {*named, "model", "served-model-name", "port", "enable-lora", "lora-modules"} <= set(found.settings)


def test_what_only_other_releases_take_is_not_an_error_of_the_tuning() -> None:
    gone = next(name for name in catalogue((0, 20, 0)).settings if name not in catalogue().settings)
    assert not [problem for problem in check_settings({gone: True}) if "is not a setting of" in problem]
    assert "max-num-sequences is not a setting of vLLM 0.32.0" in check_settings({"max-num-sequences": 4})[0]


@pytest.mark.parametrize(
    ("name", "value", "version", "sentence"),
    [
        ("performance-mode", "throughput", (0, 16, 0), "vLLM 0.16.0 has no performance-mode; vLLM 0.17.0 has it"),
        ("linear-backend", "no-such", (0, 32, 0), "vLLM 0.32.0 does not take linear-backend no-such: it is 'no-such'"),
        ("VLLM_ATTENTION_BACKEND", "X", (0, 32, 0), "has no VLLM_ATTENTION_BACKEND; vLLM 0.14.1 was the last"),
    ],
)
def test_why_an_engine_does_not_take_a_setting(
    name: str, value: str | int, version: tuple[int, int, int], sentence: str
) -> None:
    assert sentence in (why_not_taken(name, value, version) or "")


def test_true_is_not_taken_for_one() -> None:
    assert why_not_taken("max-num-seqs", 1, (0, 32, 0)) is None
    assert why_not_taken("max-num-seqs", True, (0, 32, 0)) is not None
