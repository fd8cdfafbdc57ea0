"""Text for calibration and evaluation, named by URI, and token windows cut from it.

Calibrating and judging must never see the same text, and two runs must see the same text: every list comes in an order
that the URI and the seed alone decide. Nothing here imports torch; a tokenizer is passed in.

`builtin://python-stdlib/SPLIT` is the text that every machine has: the sources of the running Python's standard
library, split by file.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import platform
import random
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_runner.s3 import S3Client, S3Place, is_s3_error, s3_sentence

BUILTIN_SPLITS = ("train", "calibration", "heldout")
FORMS = (
    "builtin://python-stdlib/{train,calibration,heldout}, file:///path.{jsonl,txt,parquet}, "
    "hf://datasets/org/name?split=S&field=F&config=C or s3://bucket/key.{jsonl,txt,parquet}"
)

_DEFAULT_FIELD = "text"
_SUFFIXES = (".jsonl", ".txt", ".parquet")
_NOT_LIBRARY = frozenset(
    {"test", "tests", "idlelib", "site-packages", "dist-packages", "turtledemo", "__pycache__", "encodings"}
)
"""Folders of a standard library that Debian leaves out, that hold other people's code or fixtures, or generated tables:
a page of hexadecimal numbers is so easy to predict that it hides what quantization costs elsewhere."""
_POOL_FACTOR = 4
"""Windows are drawn from this many times as many."""
FEWEST_WINDOWS = 16
"""How few are taken where nobody has said how many there shall be."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SETTINGS_FILES = frozenset({"README.md", ".huggingface.yaml"})
"""Where a repository says, under `configs`, which files `datasets` reads and how."""
_LEADS_OUT = re.compile(r"://|::|^[/\\~]|(^|[/\\])[.][.]([/\\]|$)")
_MIN_TEXTS = 32
"""Texts that the windows come from, if there are as many: one long text does not stand for a dataset."""


class DatasetError(ValueError):
    """The dataset cannot be used; the message says why and what to do."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that cutting windows needs."""

    eos_token_id: int | None

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any: ...


@dataclass(frozen=True)
class DatasetUri:
    """A dataset URI taken apart; `options` are those behind the question mark."""

    uri: str
    scheme: str
    path: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, uri: str) -> DatasetUri:
        parts = urlsplit(uri)
        allowed = {
            "builtin": (),
            "file": ("field",),
            "s3": ("field",),
            "hf": ("split", "field", "config", "revision", "streaming"),
        }.get(parts.scheme)
        if allowed is None:
            raise DatasetError(f'dataset "{uri}" is of no known form; write {FORMS}')
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options:
            if name not in allowed:
                remedy = f"it takes {', '.join(allowed)}" if allowed else "it takes no options"
                raise DatasetError(f'dataset "{uri}": unknown option "{name}"; {remedy}')
        return cls(uri, parts.scheme, unquote(parts.netloc + parts.path), options)

    @property
    def field_name(self) -> str:
        return self.options.get("field", _DEFAULT_FIELD)


def load_texts(
    uri: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    reason: FailureReason = FailureReason.QUANTIZATION_FAILED,
) -> list[str]:
    """The texts of a dataset, at most `limit` of them, in an order that `uri` and `seed` decide.

    Args:
        uri: One of `FORMS`.
        limit: Texts (files, lines, rows), not tokens.
        seed: Decides the order, and so which texts `limit` leaves.
        reason: What the trial fails with if the dataset cannot be used.

    Raises:
        TrialFailure: A bad URI, a missing file or field, no text at all, or an unreachable hub or bucket.
    """
    try:
        parsed = DatasetUri.parse(uri)
        texts = [text for text in _READERS[parsed.scheme](parsed, limit, seed) if text.strip()]
        if not texts:
            raise DatasetError(f'dataset "{uri}" holds no text; check that it is the file and field you mean')
    except DatasetError as error:
        raise TrialFailure(reason, str(error)) from error
    random.Random(seed).shuffle(texts)  # noqa: S311 (reproducible, not secret)
    return texts[:limit]


def fingerprint(uri: str, *, reason: FailureReason = FailureReason.QUANTIZATION_FAILED) -> str:
    """What has to change when the dataset's content does: part of a calibrated artifact's content address.

    For a file the hash of its bytes, for an object its ETag, for the standard library the Python version. A hub dataset
    is taken at its word: name `revision=` if it may change.
    """
    try:
        parsed = DatasetUri.parse(uri)
        match parsed.scheme:
            case "builtin":
                return f"{uri} python-{platform.python_version()}"
            case "file":
                with _existing(parsed).open("rb") as stream:
                    return f"{uri} sha256-{hashlib.file_digest(stream, 'sha256').hexdigest()}"
            case "s3":
                return f"{uri} etag-{_s3_etag(parsed)}"
            case _:
                return uri
    except DatasetError as error:
        raise TrialFailure(reason, str(error)) from error


def token_windows(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    length: int,
    count: int,
    seed: int,
    *,
    at_least: int | None = None,
    name: str = "the dataset",
    reason: FailureReason = FailureReason.QUANTIZATION_FAILED,
) -> list[list[int]]:
    """`count` windows of exactly `length` token ids, cut from the texts laid end to end.

    Texts are separated by the tokenizer's end-of-sequence token where it has one; no other special token is added. Only
    as much text is tokenized as `_POOL_FACTOR` times the windows need; `seed` draws among those. No text gives more
    than its share of `_MIN_TEXTS`, a stretch that `seed` chooses, unless there is too little text otherwise.

    Args:
        at_least: Fewer than `count` are enough, down to this many; None = they are not.

    Raises:
        TrialFailure: The texts hold fewer than `count` windows; `name` is what the sentence calls them.
    """
    wanted = _POOL_FACTOR * count * length
    once, again = itertools.tee(texts)
    tokens = _pool(once, tokenizer, wanted, max(length, wanted // _MIN_TEXTS), seed)
    if len(tokens) // length < count:
        tokens = _pool(again, tokenizer, wanted, None, seed)
    available = len(tokens) // length
    if at_least is not None and available >= at_least:
        count = min(count, available)
    if available < count:
        raise TrialFailure(
            reason,
            f"{name} has {len(tokens)} tokens, {available} windows of {length}, but {count} are asked for; "
            f"set samples to at most {available}, sequenceLength to at most {len(tokens) // count}, or name more text",
        )
    starts = random.Random(seed).sample(range(available), count)  # noqa: S311 (reproducible, not secret)
    return [tokens[start * length : (start + 1) * length] for start in starts]


def _pool(texts: Iterable[str], tokenizer: Tokenizer, wanted: int, most: int | None, seed: int) -> list[int]:
    """Tokens of the texts end to end, `most` from each, until there are `wanted`."""
    draw = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    tokens: list[int] = []
    for text in texts:
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        if most is not None and len(own) > most:
            start = draw.randrange(len(own) - most + 1)
            own = own[start : start + most]
        tokens.extend(own)
        if tokenizer.eos_token_id is not None:
            tokens.append(tokenizer.eos_token_id)
        if len(tokens) >= wanted:
            break
    return tokens


def builtin_split(relative_path: str) -> str:
    """Which split a source file belongs to: about 90 % train, 5 % calibration and 5 % heldout, by its path alone."""
    bucket = int(hashlib.sha256(relative_path.encode()).hexdigest(), 16) % 100
    return "heldout" if bucket < 5 else "calibration" if bucket < 10 else "train"


def _read_builtin(dataset: DatasetUri, limit: int | None, seed: int) -> Iterator[str]:
    library, _, split = dataset.path.partition("/")
    if library != "python-stdlib" or split not in BUILTIN_SPLITS:
        known = ", ".join(f"builtin://python-stdlib/{name}" for name in BUILTIN_SPLITS)
        raise DatasetError(f'dataset "{dataset.uri}" does not exist; the built-in ones are {known}')
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        # _sysconfigdata holds this machine's build paths; config-* its linker's.
        foreign = _NOT_LIBRARY.intersection(relative.parts[:-1]) or relative.name.startswith("_sysconfigdata")
        if not foreign and builtin_split(relative.as_posix()) == split:
            yield path.read_text(encoding="utf-8", errors="replace")


def _read_file(dataset: DatasetUri, limit: int | None, seed: int) -> Iterator[str]:
    return _texts_in(_existing(dataset), dataset)


def _read_s3(dataset: DatasetUri, limit: int | None, seed: int) -> Iterator[str]:
    place = _s3_place(dataset)
    with tempfile.NamedTemporaryFile(suffix=Path(place.key).suffix) as target:
        try:
            S3Client().boto.download_fileobj(place.bucket, place.key, target)
        except Exception as error:
            raise _s3_failure(dataset, place, error) from error
        target.flush()
        yield from _texts_in(Path(target.name), dataset)


def _read_hub(dataset: DatasetUri, limit: int | None, seed: int) -> Iterator[str]:
    kind, _, name = dataset.path.partition("/")
    if kind != "datasets" or not name:
        raise DatasetError(f'dataset "{dataset.uri}" names none; write hf://datasets/org/name?split=S&field=F')
    if not HUB_NAME.fullmatch(name):
        # Anything else the library would take for a folder of this machine.
        raise DatasetError(f'dataset "{dataset.uri}": {name!r} is no name on a hub; write hf://datasets/org/name')
    import datasets

    streaming = dataset.options.get("streaming") == "true"
    try:
        with tempfile.TemporaryDirectory(prefix="haqa-nowhere-") as nowhere, contextlib.chdir(nowhere):
            rows = datasets.load_dataset(
                name,
                dataset.options.get("config") or None,
                split=dataset.options.get("split", "train"),
                # What was looked at is what is loaded.
                revision=look_at_dataset(name, dataset),
                streaming=streaming,
            )
        rows = _one_column(rows, dataset)
        if streaming and limit is not None:
            rows = rows.shuffle(seed=seed, buffer_size=_POOL_FACTOR * limit).take(limit)
        elif limit is not None:
            rows = rows.shuffle(seed=seed).select(range(min(limit, len(rows))))
        yield from (_field_of(row, dataset, number) for number, row in enumerate(rows, start=1))
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f'dataset "{dataset.uri}" could not be loaded ({cause_of(error)}); check its name, config and split, '
            "HF_TOKEN if it is gated, and HF_ENDPOINT and the network, or name a file:/// instead"
        ) from error


def look_at_dataset(name: str, dataset: DatasetUri) -> str:
    """The commit that is meant. Its own settings may name files of the repository alone: the library would fetch any
    address and open any file that they name.

    Raises:
        DatasetError: they name something else.
    """
    from huggingface_hub import HfApi, hf_hub_download, metadata_load

    found = HfApi().dataset_info(name, revision=dataset.options.get("revision") or None, files_metadata=False)
    files = {one.rfilename for one in found.siblings or ()}
    for file in _SETTINGS_FILES & files:
        path = hf_hub_download(name, file, repo_type="dataset", revision=found.sha)
        settings = metadata_load(path) if file.endswith(".md") else yaml.safe_load(Path(path).read_text())
        configs = settings.get("configs") if isinstance(settings, dict) else None
        for text in _texts_of(configs):
            if _LEADS_OUT.search(text):
                raise DatasetError(
                    f'dataset "{dataset.uri}": its {file} names {text[:200]!r}, which is no file of its own; use '
                    "another dataset, or a file of this one"
                )
    return str(found.sha)


def _texts_of(settings: Any) -> Iterator[str]:
    """Everything that may name a file: keys too."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, dict):
        for key, value in settings.items():
            yield from _texts_of(key)
            yield from _texts_of(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _texts_of(value)


def _one_column(rows: Any, dataset: DatasetUri) -> Any:
    """The rows with nothing but the field: decoding a picture or a sound would fetch whatever its row names.

    Raises:
        DatasetError: there is no such field, or it holds something else than text.
    """
    import datasets

    names = rows.column_names
    if names is None:
        return rows.decode(False)
    if dataset.field_name not in names:
        raise _missing_field(dataset, 1, names)
    feature = (rows.features or {}).get(dataset.field_name)
    if isinstance(feature, datasets.Image | datasets.Audio | datasets.Video):
        raise DatasetError(f'dataset "{dataset.uri}": field "{dataset.field_name}" holds no text')
    return rows.select_columns([dataset.field_name])


_READERS: dict[str, Callable[[DatasetUri, int | None, int], Iterator[str]]] = {
    "builtin": _read_builtin,
    "file": _read_file,
    "s3": _read_s3,
    "hf": _read_hub,
}


def _existing(dataset: DatasetUri) -> Path:
    path = Path(dataset.path)
    if not path.is_absolute():
        raise DatasetError(f'dataset "{dataset.uri}" is not absolute; write file:///the/whole/path')
    if not path.is_file():
        raise DatasetError(f'dataset "{dataset.uri}": there is no file {path}; check the path and the mounts')
    return path


def _s3_place(dataset: DatasetUri) -> S3Place:
    try:
        return S3Place.parse(f"s3://{dataset.path}")
    except ValueError as error:
        raise DatasetError(f"dataset {error}") from error


def _s3_etag(dataset: DatasetUri) -> str:
    place = _s3_place(dataset)
    try:
        return str(S3Client().boto.head_object(Bucket=place.bucket, Key=place.key)["ETag"]).strip('"')
    except Exception as error:
        raise _s3_failure(dataset, place, error) from error


def _s3_failure(dataset: DatasetUri, place: S3Place, error: Exception) -> Exception:
    return DatasetError(f'dataset "{dataset.uri}": {s3_sentence(place, error)}') if is_s3_error(error) else error


def _texts_in(path: Path, dataset: DatasetUri) -> Iterator[str]:
    match path.suffix:
        case ".txt":
            yield from _paragraphs(path)
        case ".jsonl":
            yield from _json_lines(path, dataset)
        case ".parquet":
            yield from _parquet_rows(path, dataset)
        case other:
            raise DatasetError(f'dataset "{dataset.uri}" ends in "{other}"; it has to be one of {", ".join(_SUFFIXES)}')


def _paragraphs(path: Path) -> Iterator[str]:
    """A text file's paragraphs: blocks between blank lines, so that a limit and a shuffle mean something."""
    block: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.strip():
                block.append(line)
            elif block:
                yield "".join(block)
                block = []
    if block:
        yield "".join(block)


def _json_lines(path: Path, dataset: DatasetUri) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DatasetError(
                    f'dataset "{dataset.uri}", line {number}: not JSON ({error}); one object a line'
                ) from None
            yield _field_of(row, dataset, number)


def _parquet_rows(path: Path, dataset: DatasetUri) -> Iterator[str]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as table:
        columns = table.schema_arrow.names
        if dataset.field_name not in columns:
            raise _missing_field(dataset, 1, columns)
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=[dataset.field_name]):
            for row in batch.to_pylist():
                number += 1
                yield _field_of(row, dataset, number)


def _field_of(row: Any, dataset: DatasetUri, number: int) -> str:
    if not isinstance(row, dict):
        raise DatasetError(
            f'dataset "{dataset.uri}", row {number}: not an object; expected {{"{dataset.field_name}": …}}'
        )
    if dataset.field_name not in row:
        raise _missing_field(dataset, number, list(row))
    value = row[dataset.field_name]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(turn, dict) and "content" in turn for turn in value):
        # Chat datasets: what was said, without a template of any one model.
        return "\n\n".join(str(turn["content"]) for turn in value)
    raise DatasetError(
        f'dataset "{dataset.uri}", row {number}: field "{dataset.field_name}" is of type {type(value).__name__}; '
        "name a field that holds text (?field=NAME)"
    )


def _missing_field(dataset: DatasetUri, number: int, names: Sequence[str]) -> DatasetError:
    there = ", ".join(names[:12]) or "none"
    return DatasetError(
        f'dataset "{dataset.uri}", row {number}: no field "{dataset.field_name}"; name one of {there} (?field=NAME)'
    )
