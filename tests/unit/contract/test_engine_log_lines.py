"""What a running engine's log tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract.engine_log.lines import EngineLog, engine_notes, kv_cache_tokens, loading_stage, setting

STARTED = (Path(__file__).parents[2] / "data" / "engine_logs" / "started.log").read_text()


def test_the_size_of_the_cache_is_read() -> None:
    assert kv_cache_tokens(STARTED) == 524_288
    assert kv_cache_tokens("") is None


def test_notes_say_type_threads_and_cache() -> None:
    notes = engine_notes(STARTED)
    assert "dtype=torch.bfloat16" in notes[0]
    assert any("core ids=[0]" in note for note in notes)
    assert any("libtcmalloc is not found" in note for note in notes)
    assert any("KV cache size" in note for note in notes)
    assert len(notes) == len(set(notes))


def test_notes_name_the_kernels_in_use() -> None:
    text = "(Worker pid=1) INFO 11-24 00:00:00 [x.py:1] Using CPUWNA16LinearKernel for mixed-precision linear\n"
    assert engine_notes(text) == ("Using CPUWNA16LinearKernel for mixed-precision linear",)


def test_loading_never_goes_back() -> None:
    lines = STARTED.splitlines(keepends=True)
    stages = [loading_stage("".join(lines[:count]))[0] for count in range(len(lines) + 1)]
    assert stages == sorted(stages)
    assert stages[0] > 0
    assert stages[-1] == 1.0


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (["--port", "8000"], "8000"),
        (["--port=8000"], "8000"),
        (["--max_model_len", "5"], None),
        (["--port"], None),
        ([], None),
    ],
)
def test_settings_are_found_however_they_are_written(args: list[str], value: str | None) -> None:
    assert setting(args, "port") == value


def test_underscores_and_dashes_are_the_same() -> None:
    assert setting(["--max_model_len", "5"], "max-model-len") == "5"


def test_records_in_json_are_read_like_lines() -> None:
    of_docker = '{"log":"(Worker pid=3) INFO 11-24 00:00:00 [x.py:1] hello\\n","stream":"stderr"}\n'
    assert EngineLog(of_docker, None).marked[0].process == "Worker pid=3"
    of_logging = '{"levelname": "ERROR", "message": "It failed.", "exc_info": "Traceback\\n  x\\nValueError: no"}\n'
    log = EngineLog(of_logging, None)
    assert log.lines == ("It failed.", "Traceback", "  x", "ValueError: no")
    assert {line.level for line in log.marked} == {"ERROR"}
    assert EngineLog(f"2026-11-27T09:14:02.123456789Z stderr F {of_logging}", None).lines == log.lines


@pytest.mark.parametrize("line", ['{"model": "m", "quantization": null}', "{not: json}", '{"log": 3}', "{}"])
def test_other_braces_are_lines_as_they_are(line: str) -> None:
    assert EngineLog(line, None).lines == (line,)


def test_prefixes_progress_bars_and_blank_lines_are_taken_off() -> None:
    log = EngineLog("(Worker pid=3) INFO 11-24 00:00:00 [x.py:1] hello\r\n\n 0%|  |\r100%|##|\n  indented\n", None)
    assert log.lines == ("hello", "100%|##|", "  indented")
