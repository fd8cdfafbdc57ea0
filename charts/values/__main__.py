"""Writes charts/haqa/values.yaml, its schema and its table in docs/installing.md: `python -m charts.values`."""

from __future__ import annotations

from pathlib import Path

from charts.values.writing import generated_files


def main() -> None:
    root = Path(__file__).parents[2]
    for name, text in generated_files(root).items():
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
