"""The parts of the quantize step that need no llm-compressor: address, link, versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract import Algorithm, Calibration, Configuration, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.quantize import step
from haqa_runner.quantize.step import artifact_key, link_model, tool_versions

VERSIONS = {"llmcompressor": "0.14"}


def key(configuration: Configuration, calibration: Calibration | None = None) -> str:
    return artifact_key(configuration, "sha256-abc", calibration or Calibration(), VERSIONS).digest


def test_engine_settings_are_no_part_of_the_address() -> None:
    plain = Configuration.of("W4A16", "gptq")
    assert key(plain) == key(Configuration.of("W4A16", "gptq", max_num_seqs=64))
    assert key(plain) != key(Configuration.of("W4A16", "gptq", 64))


def test_kv_cache_type_is_part_of_it_where_scales_are_calibrated() -> None:
    assert key(Configuration.of("W4A16", "gptq")) != key(Configuration.of("W4A16", "gptq", kv_cache_dtype="fp8"))
    assert key(Configuration.of("W4A16", "rtn")) == key(Configuration.of("W4A16", "rtn", kv_cache_dtype="fp8"))


@pytest.mark.parametrize("change", [{"samples": 64}, {"sequence_length": 256}, {"seed": 1}])
def test_calibration_is_part_of_it_where_it_is_read(change: dict[str, int]) -> None:
    other = Calibration().model_copy(update=change)
    assert key(Configuration.of("W4A16", "gptq")) != key(Configuration.of("W4A16", "gptq"), other)
    assert key(Configuration.of("W4A16", "rtn")) == key(Configuration.of("W4A16", "rtn"), other)


def test_link_is_replaced_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        link_model(tmp_path, tmp_path / name)
        assert (tmp_path / "model").resolve() == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "one", "two"]


def test_folder_in_the_way_of_the_link_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(TrialFailure, match="in the way of the link"):
        link_model(tmp_path, tmp_path)


def test_missing_tool_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haqa_runner.quantize.step._TOOLS", ("no-such-tool",))
    with pytest.raises(TrialFailure, match=r"no-such-tool is not installed .* `runner` extra") as raised:
        tool_versions(Algorithm.RTN)
    assert raised.value.reason is FailureReason.QUANTIZATION_FAILED


NO_COMPILER = "there is no C compiler (CC, gcc or clang)"


@pytest.mark.parametrize(
    ("accelerator", "problem", "warned"),
    [(True, NO_COMPILER, True), (True, None, False), (False, NO_COMPILER, False)],
)
def test_a_slower_way_for_want_of_a_compiler_is_said_where_there_is_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, accelerator: bool, problem: str | None, warned: bool
) -> None:
    monkeypatch.setattr(step, "has_accelerator", lambda: accelerator)
    monkeypatch.setattr(step, "compiler_problem", lambda: problem)
    warnings = step._without_triton()
    assert bool(warnings) is warned
    assert all(text.startswith(NO_COMPILER) and "install gcc, libc6-dev" in text for text in warnings)


def test_what_fails_for_want_of_a_compiler_says_so_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "compiler_problem", lambda: NO_COMPILER)
    error = RuntimeError("Failed to find C compiler. Please specify via CC environment variable")
    failure = step._failure(Configuration.of("W4A16", "gptq"), error)
    assert failure.reason is FailureReason.QUANTIZATION_FAILED
    assert NO_COMPILER in failure.failure.message
    assert "install gcc, libc6-dev and the headers of this Python" in failure.failure.message


def test_a_failure_that_names_a_compiler_which_works_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "compiler_problem", lambda: None)
    failure = step._failure(Configuration.of("W4A16", "gptq"), RuntimeError("gcc was terminated"))
    assert "llm-compressor could not make it" in failure.failure.message


def test_what_one_build_of_torch_made_is_the_same_artifact_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "version", lambda name: "2.13.0+rocm7.2" if name == "torch" else "1.0")
    assert tool_versions(Algorithm.RTN)["torch"] == "2.13.0"
