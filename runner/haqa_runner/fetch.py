"""`python -m haqa_runner fetch`: brings what a winner serves into its pod, in the Deployment's init container.

What was measured and nothing else: an artifact by its content address, a model by the digest that the trials had.
Nothing is quantized here, and there is no report; what goes wrong is the last line of the container's log.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from haqa_contract import AdapterSource, FailureReason, ModelSource
from haqa_contract.failures import TrialFailure
from haqa_runner.models import fetch_model
from haqa_runner.progress import Phases, ProgressLines
from haqa_runner.quantize.look import place_adapter
from haqa_runner.quantize.step import link_model
from haqa_runner.s3 import S3Place
from haqa_runner.steps import EXIT_REPORTED_FAILURE
from haqa_runner.store import LocalStore, S3Store


def main(arguments: Sequence[str]) -> int:
    """Leaves `<directory>/model`, a link into the cache, or a folder for each adapter.

    Returns:
        Exit code 0, or 3 with a sentence on standard error.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.adapter and not given.digest:
        parser.error("the following arguments are required: --digest")
    try:
        if given.adapter:
            _adapters(given)
            return 0
        path = _artifact(given) if given.store else _model(given)
        given.directory.mkdir(parents=True, exist_ok=True)
        link_model(given.directory, path)
    except TrialFailure as error:
        sys.stderr.write(f"{error.failure.reason}: {error.failure.message}\n")
        return EXIT_REPORTED_FAILURE
    return 0


def _artifact(given: argparse.Namespace) -> Path:
    store = S3Store(_place(given.store), LocalStore(given.cache / "store"))
    return store.fetch(given.digest, Phases(), ProgressLines()).path


def _model(given: argparse.Namespace) -> Path:
    source = ModelSource(
        uri=given.model,
        revision=given.revision,
        token_env=given.token_env,
        trust_remote_code=given.trust_remote_code,
    )
    model = fetch_model(source, given.cache, ProgressLines())
    if model.digest != given.digest:
        raise TrialFailure(
            FailureReason.MODEL_FETCH,
            f"model {given.model} is {model.digest} now, and {given.digest} was measured; pin spec.model.revision to "
            "what was measured, or tune the new one",
        )
    return model.path


def _adapters(given: argparse.Namespace) -> None:
    """Leaves each in a folder of its name."""
    for name, uri, digest in given.adapter:
        source = ModelSource(uri=uri, token_env=given.token_env, mount=given.mount)
        place_adapter(AdapterSource(name=name, source=source, digest=digest), given.directory, given.cache)


def _place(text: str) -> S3Place:
    try:
        return S3Place.parse(text)
    except ValueError as error:
        raise TrialFailure(FailureReason.MODEL_FETCH, f"spec.artifacts: artifact store {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="haqa_runner fetch", description="Brings a winner's model into its pod.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--store", help="s3://bucket/prefix of the artifact store")
    what.add_argument("--model", help="URI of a model that is served as it is")
    what.add_argument(
        "--adapter", nargs=3, action="append", metavar=("NAME", "URI", "DIGEST"), help="a LoRA adapter; may be repeated"
    )
    parser.add_argument("--digest", help="what was measured: of the artifact, or of the model")
    parser.add_argument("--mount", help="where the claim of a pvc:// adapter is mounted")
    parser.add_argument("--directory", type=Path, required=True, help="where the link `model` is left")
    parser.add_argument("--cache", type=Path, required=True, help="where the files go")
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--token-env", help="variable that holds the hub's token")
    parser.add_argument("--trust-remote-code", action="store_true", help="the model brings code that may run")
    return parser
