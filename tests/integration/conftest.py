"""What the tests with real environments share: interpreters that have imported once, and small models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.tls_server import TlsServer
from tests.integration.quantize_bench import LIMIT_S, Bench

from haqa_operator.local.environments import PROJECT, runner_environment
from haqa_operator.local.launchers import launchers
from haqa_runner.prefork import PreforkedLauncher
from haqa_runner.serve.launching import Spawn


@pytest.fixture(scope="session")
def launcher() -> Iterator[PreforkedLauncher]:
    """Of runner steps, forked from a process that has imported llm-compressor, as `haqa tune` does it."""
    with PreforkedLauncher(runner_environment().python, ["haqa_runner.quantize.warm"]) as running:
        running.warm(dict(os.environ))
        yield running


@pytest.fixture(scope="session")
def models(launcher: PreforkedLauncher, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small Llamas by name.

    `tiny`; `odd`, whose 704 columns no group of 128 divides; `mini` for what is slow; `long` for prompts of thousands.
    """
    folder = tmp_path_factory.mktemp("models")
    sizes = {
        "tiny": {},
        "odd": {"intermediate": 704},
        "mini": {"hidden": 128, "layers": 1, "intermediate": 128},
        "long": {"positions": 8192},
    }
    program = (
        "import json, sys; from pathlib import Path; from tests.tiny_model import make_tiny_llama\n"
        "for name, size in json.loads(sys.argv[2]).items(): make_tiny_llama(Path(sys.argv[1]) / name, **size)"
    )
    maker = launcher.launch(["-c", program, str(folder), json.dumps(sizes)], dict(os.environ), PROJECT, folder / "log")
    assert maker.wait(LIMIT_S) == 0, (folder / "log").read_text()
    return {name: folder / name for name in sizes}


@pytest.fixture(scope="session")
def shared(launcher: PreforkedLauncher, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Steps with one store for all tests, so that each artifact of the tiny model is made once."""
    return Bench(launcher, tmp_path_factory.mktemp("shared"), models["tiny"])


@pytest.fixture(scope="session")
def engines() -> Iterator[Spawn]:
    """Starts real engines, forked from interpreters that have imported vLLM, as `haqa tune` does it."""
    notes: list[str] = []
    with launchers(True, lambda role, text: notes.append(f"{role}: {text}")) as (_, spawn):
        yield spawn
    assert not notes, "the tests are to be about forked engines"


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[TlsServer]:
    (folder := tmp_path / "tls").mkdir()
    with TlsServer(folder) as server:
        yield server
