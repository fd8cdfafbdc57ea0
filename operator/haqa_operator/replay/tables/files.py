"""A file's bytes become text, or a sentence on what the file is instead of a table."""

from __future__ import annotations

from pathlib import Path

from haqa_operator.replay.tables.cells import TableError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_KINDS = {
    b"PK\x03\x04": "a spreadsheet or another zip archive; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"PAR1": "a Parquet file; write it as CSV",
    b"SQLite format 3": "an SQLite database; write the query's result as CSV",
}
_TEXTS = {
    "{": "JSON; write it as CSV, one line a measurement",
    "[": "JSON; write it as CSV, one line a measurement",
    "<": "HTML or XML; save the table itself, as CSV",
    "|": "a Markdown table; leave out the outer bars and the line of dashes",
    "version https://git-lfs": "a pointer of git LFS; fetch the file itself (git lfs pull)",
}


def read_text(path: Path) -> str:
    """UTF-8 with or without a byte order mark, or UTF-16 with one (what Excel calls Unicode text).

    Raises:
        TableError: for a file that is not there, cannot be decoded, or is something else than a table.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; give the path of a CSV table") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error}); a table is CSV in UTF-8") from None
    for mark, kind in _KINDS.items():
        if data.startswith(mark):
            raise TableError(f"{path.name} is {kind}")
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: cannot be read ({error}); a table is CSV in UTF-8") from None
    for beginning, kind in _TEXTS.items():
        if text.lstrip().startswith(beginning):
            raise TableError(f"{path.name} is {kind}")
    return text
