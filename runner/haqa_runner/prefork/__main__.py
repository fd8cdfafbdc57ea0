"""`python -m haqa_runner.prefork --socket PATH --preload MODULE`: serve until standard input closes."""

import argparse
import shutil
from pathlib import Path

from haqa_runner.prefork.router import Router


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m haqa_runner.prefork", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="where to listen (mode 0600)")
    parser.add_argument("--preload", action="append", default=[], help="module to import; repeat")
    parser.add_argument("--max-images", type=int, default=6, help="interpreters kept at most")
    parser.add_argument("--linger-s", type=float, default=2.0, help="how long a group may outlive its leader")
    parser.add_argument("--own-folder", action="store_true", help="remove the socket's folder at the end")
    arguments = parser.parse_args()
    Router(arguments.socket, arguments.preload, arguments.max_images, arguments.linger_s).serve()
    if arguments.own_folder:  # of a caller that was killed, too
        shutil.rmtree(arguments.socket.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
