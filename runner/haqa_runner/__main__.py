"""`python -m haqa_runner {quantize,serve,measure} --request FILE`: one step of one trial."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from haqa_runner.steps import EXIT_UNREADABLE_REQUEST, RequestError, Step, read_request
from haqa_runner.supervision import supervise


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the step; exit code 0 = done, 3 = failed and reported, 2 = the request cannot be read."""
    parser = argparse.ArgumentParser(prog="haqa_runner", description="One step of a HAQA trial.")
    parser.add_argument("step", choices=[step.value for step in Step])
    parser.add_argument("--request", type=Path, required=True, help="TrialRequest as JSON")
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        request = read_request(given.request)
    except RequestError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNREADABLE_REQUEST
    return supervise(Step(given.step), request)


if __name__ == "__main__":
    sys.exit(main())
