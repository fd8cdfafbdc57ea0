"""In place of vLLM in a trial's pod: answers /health and /v1/models on the port that it is given."""

import http.server
import json
import signal
import sys

arguments = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": [{"id": arguments["served-model-name"]}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer((arguments["host"], int(arguments["port"])), Handler).serve_forever()
