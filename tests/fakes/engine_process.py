"""A program that starts, fails and ends like a vLLM engine, in milliseconds: `python -m tests.fakes.engine_process`.

It takes vLLM's arguments that matter and, through FAKE_ENGINE, orders to misbehave: `die` (with what argparse would
say), `killed`, `hang` (never listens), `other` (serves another model), `stubborn` (ignores SIGTERM), `child` (starts a
process that outlives it unless its group is ended; its id is written to the file named by FAKE_CHILD), `dead-core`
(serves on, while its log says that the engine behind it has died).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.fakes.vllm_server import Behaviour, fake_vllm

DEAD_CORE = """\
(EngineCore pid=1) ERROR 11-24 00:00:00 [core.py:1512] EngineCore encountered a fatal error.
(EngineCore pid=1) ERROR 11-24 00:00:00 [core.py:1512] Traceback (most recent call last):
(EngineCore pid=1) ERROR 11-24 00:00:00 [core.py:1512]   File "a.py", line 1, in f
(EngineCore pid=1) ERROR 11-24 00:00:00 [core.py:1512] AttributeError: '_OpNamespace' '_C' object has no attribute 'f'
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="api_server.py")
    parser.add_argument("--served-model-name")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    given, _ = parser.parse_known_args()
    order = os.environ.get("FAKE_ENGINE", "")
    print("(EngineCore pid=1) INFO 11-24 00:00:00 [kv.py:1] CPU KV cache size: 1,234 tokens", flush=True)
    if order == "die":
        parser.error("unrecognized arguments: --flux 9")
    if order == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if order == "child":
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        Path(os.environ["FAKE_CHILD"]).write_text(str(child.pid))
    if order == "hang":
        signal.pause()
    model = "other" if order == "other" else given.served_model_name
    with fake_vllm(Behaviour(model=model), port=given.port):
        print("Application startup complete", flush=True)
        if order == "dead-core":
            print(DEAD_CORE, flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
