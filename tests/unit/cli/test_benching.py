from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from haqa_operator.cli import app

TABLES = Path(__file__).parents[3] / "benchmarks" / "tables"


def bench(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["bench", "search", *arguments])
    return result.exit_code, result.output


def test_one_command_makes_tables_and_plots_and_goes_on_from_them(tmp_path: Path) -> None:
    asked = [str(TABLES / "torchao.csv"), "--strategy", "random,expert", "--seeds", "2", "--output", str(tmp_path)]
    code, said = bench(*asked)
    assert code == 0
    assert "expert" in said
    assert {path.name for path in tmp_path.iterdir()} == {"runs.jsonl", "search.md", "search.json", "search.html"}
    before = (tmp_path / "runs.jsonl").read_text()
    code, said = bench(*asked, "--json")
    assert (tmp_path / "runs.jsonl").read_text() == before
    figures = json.loads(said[said.index("{") :])
    assert [one["strategy"] for one in figures["groups"]["All tables"]] == ["random", "expert"]
    assert figures["groups"]["All tables"][0]["searches"] == 4


def test_noise_adds_false_wins(tmp_path: Path) -> None:
    asked = [str(TABLES / "torchao.csv"), "--strategy", "random", "--seeds", "1", "--noise", "3"]
    code, _ = bench(*asked, "--output", str(tmp_path))
    assert code == 0
    assert "| false wins |" in (tmp_path / "search.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        ([str(TABLES / "torchao.csv"), "--strategy", "annealing"], "no such strategy"),
        ([str(TABLES / "torchao.csv"), "--strategy", "agent"], "needs --agent"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is(tmp_path: Path, arguments: list[str], said: str) -> None:
    code, output = bench(*arguments, "--output", str(tmp_path / "out"))
    assert code == 2
    assert said in " ".join(output.split())
    assert not (tmp_path / "out").exists()
