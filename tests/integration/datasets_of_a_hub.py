"""What the real `datasets` reads of repositories whose settings point elsewhere; prints what came of each, as JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FILES = {
    "ok.csv": b"text\nfrom the repository\n",
    "other.csv": b"text\nof another config\n",
}


class Hub(ThreadingHTTPServer):
    """One repository of datasets, org/d, with these files; and beside it whatever nobody may be led to."""

    files: dict[str, bytes]
    led_to: list[str]

    @property
    def commit(self) -> str:
        """Another for other files, as what is cached is told apart by it."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode(), usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path, files = self.path, self.server.files
        status, headers, text = 200, {}, b"{}"
        entries = [{"type": "file", "path": n, "size": len(t), "oid": "c" * 40} for n, t in files.items()]
        name = path.rpartition("/")[2].partition("?")[0]
        if path.startswith("/internal"):
            self.server.led_to.append(path)
            text = b'{"text": "INTERNAL"}\n'
        elif "paths-info" in path or "/tree/" in path:
            text = json.dumps(entries).encode()
        elif re.match(r"/api/datasets/org/d(/revision/\w+)?(\?.*)?$", path):
            siblings = [{"rfilename": one} for one in files]
            text = json.dumps({"id": "org/d", "sha": self.server.commit, "siblings": siblings, "tags": []}).encode()
        elif name in files:
            text = files[name]
            headers = {"ETag": f'"{hashlib.sha256(text).hexdigest()}"', "X-Repo-Commit": self.server.commit}
        else:
            status, headers = 404, {"X-Error-Code": "EntryNotFound"}
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/json")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(text)


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Handler)
    server.files, server.led_to = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def front_matter(**paths: str) -> bytes:
    configs = [{"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path in paths.items()]
    return (
        f"---\nlicense_link: https://example.com/license\nconfigs: {json.dumps(configs)}\n---\nhttps://prose\n".encode()
    )


def main() -> None:
    with hub() as server, tempfile.TemporaryDirectory() as folder:
        address = f"http://127.0.0.1:{server.server_port}"
        os.environ.update(HF_ENDPOINT=address, HF_HOME=folder, HF_HUB_DISABLE_TELEMETRY="1")
        secret = Path(folder, "secret.csv")
        secret.write_text("text\nSECRET\n")
        from haqa_contract.failures import TrialFailure
        from haqa_runner.datasets import load_texts

        inside = f"{address}/internal/x#.json"
        repositories = {
            "plain": FILES,
            "configs": {**FILES, "README.md": front_matter(default="ok.csv", second="other.csv")},
            "url": {**FILES, "README.md": front_matter(default=inside)},
            "chain": {**FILES, "README.md": front_matter(default="ok.csv", env=f"reference://x::{inside}")},
            "absolute": {**FILES, "README.md": front_matter(default=str(secret))},
            "above": {**FILES, "README.md": front_matter(default="../../secret.csv")},
            "yaml": {**FILES, ".huggingface.yaml": front_matter(default=inside).split(b"---")[1]},
        }
        found: dict[str, Any] = {}

        def tried(what: str, files: dict[str, bytes], uri: str) -> None:
            server.files, server.led_to = files, []
            try:
                outcome: Any = load_texts(uri, limit=3)
            except TrialFailure as failure:
                outcome = str(failure.message)
            found[what] = {"outcome": outcome, "led_to": list(server.led_to)}

        for what, files in repositories.items():
            tried(what, files, "hf://datasets/org/d?split=train")
        tried("second", repositories["configs"], "hf://datasets/org/d?split=train&config=second")
        tried("streamed", repositories["configs"], "hf://datasets/org/d?split=train&streaming=true")
        tried("streamed url", repositories["url"], "hf://datasets/org/d?split=train&streaming=true")
        tried("folder", FILES, f"hf://datasets/{folder}")
        tried("encoded", FILES, "hf://datasets/%2e%2e/%2e%2e/tmp")
        print(json.dumps(found))


if __name__ == "__main__":
    main()
